package admin_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/admin"
)

// A program that embeds a gateway can serve the pages beside its own.
func ExampleHandler() {
	g, err := gateway.New(gateway.Options{
		Store:   memory.NewStore(memory.Options{}),
		Backend: memory.NewBus().Gateway(),
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mqtt/", http.StripPrefix("/mqtt", admin.New(admin.Options{Gateway: g, Cluster: g}).Handler()))
	server := httptest.NewServer(mux)
	defer server.Close()

	answer, err := http.Get(server.URL + "/mqtt/readyz")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	fmt.Printf("%s: %s", answer.Status, text)
	// Output: 503 Service Unavailable: not ready: not started
}
