package protocol

// Will is the message to be published when the connection ends badly.
type Will struct {
	QoS    QoS
	Retain bool
	Topic  string
	// Payload refers to the body.
	Payload []byte
	// Delay before publication, in seconds.
	Delay uint32
	// MessageExpiry in seconds, counted from publication.
	MessageExpiry    uint32
	HasMessageExpiry bool
	// Properties as in [Publish].
	Properties []byte
}

// decode parses the will in the payload of a CONNECT that has had users user
// properties already.
func (w *Will) decode(c *cursor, v Version, users int) error {
	if v == V5 {
		props := c.properties(inWill)
		props.users = users
		carried := travelling{section: props.b}
		for {
			from := len(carried.section) - len(props.b)
			if !props.next() {
				break
			}
			switch props.id {
			case propWillDelay:
				w.Delay = props.uint32()
			case propMessageExpiry:
				w.MessageExpiry, w.HasMessageExpiry = props.uint32(), true
			default:
				carried.read(&props, from)
			}
		}
		if err := props.fault(); err != nil {
			return err
		}
		w.Properties = carried.b
	}
	topic := c.binary()
	w.Payload = c.binary()
	if c.err != nil {
		return c.err
	}
	if s := checkTopic(topic); s != topicFine {
		return topicFault(s)
	}
	w.Topic = string(topic)
	return nil
}

func (w *Will) append(e *encoder, v Version) {
	if v == V5 {
		at := e.properties()
		if w.Delay != 0 {
			e.property32(propWillDelay, w.Delay)
		}
		if w.HasMessageExpiry {
			e.property32(propMessageExpiry, w.MessageExpiry)
		}
		e.b = append(e.b, w.Properties...)
		e.fill(at)
	}
	if checkTopic([]byte(w.Topic)) != topicFine {
		e.fail("will topic is not a topic name")
	}
	e.text(w.Topic)
	e.binary(w.Payload)
}
