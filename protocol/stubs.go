package protocol

// Placeholders while the codec is being written.

const MaxUserProperties = 64

func ParseHeader(b []byte, v Version, limit uint32) (h Header, size int, err error) {
	return Header{}, 0, malformed("todo")
}
func (p *Publish) Size(v Version) int                                               { return 0 }
func AppendAck(dst []byte, kind Type, id uint16, code ReasonCode, v Version) []byte { return dst }
func ParseMessageProperties(b []byte) (MessageProperties, error) {
	return MessageProperties{}, malformed("todo")
}
func AppendMessageProperties(dst []byte, p *MessageProperties) ([]byte, error) { return dst, ErrEncode }
func ValidTopicName[T ~string | ~[]byte](topic T) error                        { return nil }
func ValidFilter(filter string) error                                          { return nil }
func SplitShare(filter string) (group, rest string, shared bool)               { return "", filter, false }
func Match(filter, topic string) bool                                          { return filter == topic }
func Levels[T ~string | ~[]byte](topic T) int                                  { return 1 }
func ValidString[T ~string | ~[]byte](s T) bool                                { return true }
func (p *Connect) Decode(h Header, body []byte, v Version) error               { return malformed("todo") }
func (p *Connect) Append(dst []byte, v Version) ([]byte, error)                { return dst, ErrEncode }
func (p *Connack) Decode(h Header, body []byte, v Version) error               { return malformed("todo") }
func (p *Connack) Append(dst []byte, v Version) ([]byte, error)                { return dst, ErrEncode }
func (p *Publish) Decode(h Header, body []byte, v Version) error               { return malformed("todo") }
func (p *Publish) Append(dst []byte, v Version) ([]byte, error)                { return dst, ErrEncode }
func (p *Ack) Decode(h Header, body []byte, v Version) error                   { return malformed("todo") }
func (p *Ack) Append(dst []byte, v Version) ([]byte, error)                    { return dst, ErrEncode }
func (p *Subscribe) Decode(h Header, body []byte, v Version) error             { return malformed("todo") }
func (p *Subscribe) Append(dst []byte, v Version) ([]byte, error)              { return dst, ErrEncode }
func (p *Suback) Decode(h Header, body []byte, v Version) error                { return malformed("todo") }
func (p *Suback) Append(dst []byte, v Version) ([]byte, error)                 { return dst, ErrEncode }
func (p *Unsubscribe) Decode(h Header, body []byte, v Version) error           { return malformed("todo") }
func (p *Unsubscribe) Append(dst []byte, v Version) ([]byte, error)            { return dst, ErrEncode }
func (p *Unsuback) Decode(h Header, body []byte, v Version) error              { return malformed("todo") }
func (p *Unsuback) Append(dst []byte, v Version) ([]byte, error)               { return dst, ErrEncode }
func (p *Disconnect) Decode(h Header, body []byte, v Version) error            { return malformed("todo") }
func (p *Disconnect) Append(dst []byte, v Version) ([]byte, error)             { return dst, ErrEncode }
func (p *Auth) Decode(h Header, body []byte, v Version) error                  { return malformed("todo") }
func (p *Auth) Append(dst []byte, v Version) ([]byte, error)                   { return dst, ErrEncode }
func (p *Pingreq) Decode(h Header, body []byte, v Version) error               { return malformed("todo") }
func (p *Pingreq) Append(dst []byte, v Version) ([]byte, error)                { return dst, ErrEncode }
func (p *Pingresp) Decode(h Header, body []byte, v Version) error              { return malformed("todo") }
func (p *Pingresp) Append(dst []byte, v Version) ([]byte, error)               { return dst, ErrEncode }
