// Command pahomqttgolang is Eclipse Paho's Go client for MQTT 3.1 and 3.1.1 as a
// client of the end-to-end tests; see package line.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// patience bounds every wait for the server.
const patience = 30 * time.Second

func main() {
	if err := line.Serve(os.Stdin, line.NewOut(os.Stdout), dial); err != nil {
		log.Fatal(err)
	}
}

type connection struct {
	mqtt.Client
	reconnect bool
}

func dial(c line.Connect, event func(line.Report)) (line.Client, line.Report, error) {
	if c.Version == 5 {
		return nil, line.Report{}, errors.New("this library speaks MQTT 3.1 and 3.1.1")
	}
	var again atomic.Bool
	opts := mqtt.NewClientOptions().
		// The library's name for plain TCP; it knows ws as it is.
		AddBroker(strings.Replace(c.URL, "mqtt://", "tcp://", 1)).
		SetProtocolVersion(uint(c.Version)).
		SetClientID(c.ClientID).
		SetCleanSession(c.Clean).
		SetKeepAlive(time.Duration(c.KeepAlive) * time.Second).
		SetAutoReconnect(c.Reconnect).
		SetMaxReconnectInterval(100 * time.Millisecond).
		SetResumeSubs(c.Reconnect).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			event(line.Report{Message: &line.Message{
				Topic: m.Topic(), Payload: m.Payload(), QoS: int(m.Qos()), Retain: m.Retained(), Dup: m.Duplicate(),
			}})
		}).
		SetOnConnectHandler(func(mqtt.Client) {
			if again.Swap(true) {
				event(line.Report{Up: true})
			}
		}).
		SetConnectionLostHandler(func(mqtt.Client, error) { event(line.Report{Down: true}) })
	if w := c.Will; w != nil {
		opts.SetBinaryWill(w.Topic, w.Payload, byte(w.QoS), w.Retain)
	}
	client := mqtt.NewClient(opts)
	token := client.Connect().(*mqtt.ConnectToken)
	if err := await(token); err != nil {
		return nil, line.Report{}, err
	}
	return connection{client, c.Reconnect}, line.Report{SessionPresent: token.SessionPresent()}, nil
}

func await(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("no acknowledgement")
	}
	return t.Error()
}

func (c connection) Subscribe(filters []line.Filter, _ int) ([]int, error) {
	asked := map[string]byte{}
	for _, f := range filters {
		asked[f.Filter] = byte(f.QoS)
	}
	token := c.SubscribeMultiple(asked, nil).(*mqtt.SubscribeToken)
	err := await(token)
	granted := token.Result()
	codes := make([]int, len(filters))
	for i, f := range filters {
		code, ok := granted[f.Filter]
		if !ok {
			return nil, errors.Join(err, fmt.Errorf("SUBACK has no code for %q", f.Filter))
		}
		codes[i] = int(code)
	}
	return codes, nil
}

func (c connection) Unsubscribe(filters []line.Filter) error {
	var names []string
	for _, f := range filters {
		names = append(names, f.Filter)
	}
	return await(c.Client.Unsubscribe(names...))
}

func (c connection) Publish(messages []line.Message) error {
	var tokens []mqtt.Token
	for _, m := range messages {
		tokens = append(tokens, c.Client.Publish(m.Topic, byte(m.QoS), m.Retain, m.Payload))
	}
	for i, t := range tokens {
		// Above QoS 0 the library keeps what it could not send, for the next
		// connection, and nothing more is heard of it here.
		kept := c.reconnect && messages[i].QoS > 0
		if err := await(t); err != nil && !kept {
			return err
		}
	}
	return nil
}

func (c connection) Disconnect(int) error {
	c.Client.Disconnect(250) // milliseconds for what is still under way
	return nil
}
