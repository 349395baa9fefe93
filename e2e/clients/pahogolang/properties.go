package main

import (
	"github.com/eclipse/paho.golang/paho"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

func will(c line.Connect) (*paho.WillMessage, *paho.WillProperties) {
	w := c.Will
	if w == nil {
		return nil, nil
	}
	props := &paho.WillProperties{}
	if p := publishProperties(w.Properties); p != nil {
		props.PayloadFormat, props.MessageExpiry = p.PayloadFormat, p.MessageExpiry
		props.ContentType, props.ResponseTopic = p.ContentType, p.ResponseTopic
		props.CorrelationData, props.User = p.CorrelationData, p.User
	}
	if c.WillDelay > 0 {
		delay := uint32(c.WillDelay)
		props.WillDelayInterval = &delay
	}
	return &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: byte(w.QoS), Retain: w.Retain}, props
}

func publishProperties(p *line.Properties) *paho.PublishProperties {
	if p == nil {
		return nil
	}
	props := &paho.PublishProperties{
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.Correlation,
	}
	if p.PayloadFormat != 0 {
		format := byte(p.PayloadFormat)
		props.PayloadFormat = &format
	}
	if p.Expiry != 0 {
		expiry := uint32(p.Expiry)
		props.MessageExpiry = &expiry
	}
	for _, pair := range p.User {
		props.User.Add(pair[0], pair[1])
	}
	return props
}

func received(p *paho.Publish) *line.Message {
	m := &line.Message{Topic: p.Topic, Payload: p.Payload, QoS: int(p.QoS), Retain: p.Retain, Dup: p.Duplicate()}
	if p.Properties == nil {
		return m
	}
	props := line.Properties{
		ContentType: p.Properties.ContentType, ResponseTopic: p.Properties.ResponseTopic, Correlation: p.Properties.CorrelationData,
	}
	if f := p.Properties.PayloadFormat; f != nil {
		props.PayloadFormat = int(*f)
	}
	if e := p.Properties.MessageExpiry; e != nil {
		props.Expiry = int(*e)
	}
	if id := p.Properties.SubscriptionIdentifier; id != nil {
		props.SubscriptionIDs = []int{*id}
	}
	for _, u := range p.Properties.User {
		props.User = append(props.User, [2]string{u.Key, u.Value})
	}
	m.Properties = &props
	return m
}
