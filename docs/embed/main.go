// Command embed is an MQTT broker in another program, with a password of its
// own. README.md shows it.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
)

func main() {
	g, err := gateway.New(gateway.Options{
		Store:         memory.NewStore(memory.Options{}),
		Backend:       memory.NewBus().Gateway(),
		Listeners:     []gateway.Listener{{Name: "tcp", Address: "127.0.0.1:1883"}},
		Authenticator: gateway.AuthenticatorFunc(authenticate),
	})
	if err != nil {
		log.Fatal(err) // every *gateway.ConfigError at once
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func authenticate(_ context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	if r.Client.Username != "demo" || string(r.Password) != "secret" {
		return gateway.Identity{}, gateway.ErrBadCredentials
	}
	return gateway.Identity{Principal: r.Client.Username}, nil
}
