package protocol

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// firstBody is how much memory a [Reader] takes for a body on the strength of
// its declared length alone. What is longer gets memory as its bytes arrive.
const firstBody = 64 << 10

// Reader reads packets from a byte stream, for programs that can block. It is
// not safe for concurrent use.
type Reader struct {
	r     *bufio.Reader
	limit uint32
}

// NewReader returns a Reader of r that refuses packets of more than limit bytes
// before it takes memory for them; limit 0 is none.
func NewReader(r io.Reader, limit uint32) *Reader {
	return &Reader{r: bufio.NewReader(r), limit: limit}
}

// ReadPacket reads the next packet; v is 0 for the first one of a connection.
// The packet owns its memory. The error is an [*Error] for a fault of the peer,
// io.EOF at the end of the stream, io.ErrUnexpectedEOF if that is inside a
// packet, and otherwise that of the stream. After an error of any kind the
// place in the stream is lost.
func (r *Reader) ReadPacket(v Version) (Packet, error) {
	h, err := r.readHeader(v)
	if err != nil {
		return nil, err
	}
	body, err := r.readBody(h.Length)
	if err != nil {
		return nil, err
	}
	return Decode(h, body, v)
}

func (r *Reader) readHeader(v Version) (Header, error) {
	var b [5]byte
	for n := 0; ; n++ {
		h, size, err := ParseHeader(b[:n], v, r.limit)
		if size > 0 || err != nil {
			return h, err
		}
		if b[n], err = r.r.ReadByte(); err != nil {
			if n > 0 {
				err = inside(err)
			}
			return Header{}, err
		}
	}
}

func (r *Reader) readBody(n int) ([]byte, error) {
	if n <= firstBody {
		b := make([]byte, n)
		_, err := io.ReadFull(r.r, b)
		return b, inside(err)
	}
	var b bytes.Buffer
	b.Grow(firstBody)
	_, err := io.CopyN(&b, r.r, int64(n))
	return b.Bytes(), inside(err)
}

// inside turns the end of the stream into one that comes too early.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
