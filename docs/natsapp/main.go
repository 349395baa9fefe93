// Command natsapp is an application on NATS that talks to MQTT clients.
// ../nats.md shows it.
package main

import (
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

func main() {
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	// What MQTT clients publish to greenhouse/+/temperature.
	_, err = nc.Subscribe("mqtt.message.greenhouse.*.temperature", func(m *nats.Msg) {
		degrees, err := strconv.ParseFloat(string(m.Data), 64)
		if err != nil || degrees < 30 {
			return
		}
		house := strings.Split(m.Subject, ".")[3]
		// To greenhouse/<house>/fan, for MQTT clients that are there and those that are not.
		command := nats.NewMsg("mqtt.publish.greenhouse." + house + ".fan")
		command.Data = []byte("on")
		command.Header.Set("Mqtt-Message-Expiry", "600")
		answer, err := nc.RequestMsg(command, 5*time.Second)
		switch {
		case err != nil:
			log.Print(err) // nobody knows: publish it again
		case answer.Header.Get("Mqtt-Error") != "":
			log.Print(answer.Header.Get("Mqtt-Error")) // it was not published
		default:
			log.Printf("house %s: fan on", house) // it is stored
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening")
	select {}
}
