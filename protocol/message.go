package protocol

// MessageProperties are the MQTT 5 properties that travel with a message from
// its publisher to its subscribers, unchanged and in order [MQTT-3.3.2-4]. A
// field counts only if its Has field is set.
type MessageProperties struct {
	// PayloadFormat is 1 if the payload is UTF-8 text, 0 if unspecified.
	PayloadFormat    byte
	HasPayloadFormat bool
	ContentType      string
	HasContentType   bool
	// ResponseTopic is a topic name without wildcards [MQTT-3.3.2-14].
	ResponseTopic    string
	HasResponseTopic bool
	Correlation      []byte
	HasCorrelation   bool
	User             []UserProperty
}
