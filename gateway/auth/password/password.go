// Package password verifies and makes hashes of passwords, and reads and edits
// files of them. It knows the formats of Mosquitto and of amqtt, so that the
// files of both can be used as they are.
package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"

	"github.com/go-crypt/x/crypt"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Scheme is a way to hash passwords.
type Scheme string

// The schemes that can be verified. [Make] makes the first four.
const (
	Argon2id Scheme = "argon2id"
	Bcrypt   Scheme = "bcrypt"
	// PBKDF2 is Mosquitto's "$7$": PBKDF2 with SHA-512.
	PBKDF2 Scheme = "pbkdf2"
	// SCRAM is what SCRAM-SHA-256 needs (RFC 5802), in the form that
	// PostgreSQL uses. Its users can log in with a plain password too.
	SCRAM Scheme = "scram-sha-256"
	// Argon2i is what older libraries made by default.
	Argon2i Scheme = "argon2i"
	// SHA512 is Mosquitto's old "$6$": one round of SHA-512. It protects
	// little and is for migration only.
	SHA512 Scheme = "sha512"
	// SHA512Crypt is the "$6$" of crypt(3), which amqtt took over.
	SHA512Crypt Scheme = "sha512-crypt"
)

// MaxLength is the longest password that is verified, in bytes; a longer one
// is wrong. Some schemes take time by the square of the length.
const MaxLength = 1024

// Hash is the hash of a password with what is needed to verify one. It does not
// change, and prints as its scheme.
type Hash struct {
	scheme     Scheme
	salt, key  []byte
	iterations int    // PBKDF2, SCRAM, rounds of SHA512Crypt, passes of Argon2
	memory     uint32 // Argon2, in KiB
	threads    uint8  // Argon2
	serverKey  []byte // SCRAM
	text       string // Bcrypt, which has its own parser
}

// Scheme of the hash.
func (h *Hash) Scheme() Scheme { return h.scheme }

// String is the scheme, so that no log shows more.
func (h *Hash) String() string { return string(h.scheme) }

// GoString is the scheme too.
func (h *Hash) GoString() string { return string(h.scheme) }

// Same reports whether two hashes are one: neither password nor salt changed.
func (h *Hash) Same(o *Hash) bool {
	return h == o || h != nil && o != nil && h.scheme == o.scheme && h.text == o.text && h.iterations == o.iterations &&
		hmac.Equal(h.salt, o.salt) && hmac.Equal(h.key, o.key)
}

// SCRAMKeys returns what a SCRAM exchange needs, if the hash is of that scheme.
func (h *Hash) SCRAMKeys() (salt []byte, iterations int, storedKey, serverKey []byte, ok bool) {
	return h.salt, h.iterations, h.key, h.serverKey, h.scheme == SCRAM
}

// Verify reports whether the password is the right one, in a time that does not
// depend on what is wrong with it. It takes as much processor time and memory
// as the hash was made to cost: bound how many run at once.
func (h *Hash) Verify(password []byte) bool {
	if len(password) > MaxLength {
		return false
	}
	switch h.scheme {
	case Bcrypt:
		return bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil
	case SHA512:
		sum := sha512.Sum512(append(append(make([]byte, 0, len(password)+len(h.salt)), password...), h.salt...))
		return subtle.ConstantTimeCompare(sum[:], h.key) == 1
	case SHA512Crypt:
		return subtle.ConstantTimeCompare(crypt.KeySHACrypt(sha512.New, password, h.salt, h.iterations), h.key) == 1
	}
	key, err := h.derive(password)
	return err == nil && subtle.ConstantTimeCompare(key, h.key) == 1
}

func (h *Hash) derive(password []byte) ([]byte, error) {
	n := len(h.key)
	switch h.scheme {
	case Argon2id:
		return argon2.IDKey(password, h.salt, uint32(h.iterations), h.memory, h.threads, uint32(n)), nil
	case Argon2i:
		return argon2.Key(password, h.salt, uint32(h.iterations), h.memory, h.threads, uint32(n)), nil
	case PBKDF2:
		return pbkdf2.Key(sha512.New, string(password), h.salt, h.iterations, n)
	case SCRAM:
		stored, _, err := scramKeys(password, h.salt, h.iterations)
		return stored, err
	}
	return nil, errors.New("no such scheme")
}

// scramKeys computes StoredKey and ServerKey (RFC 5802 §3).
func scramKeys(password, salt []byte, iterations int) (stored, server []byte, err error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	client := mac(salted, "Client Key")
	sum := sha256.Sum256(client)
	return sum[:], mac(salted, "Server Key"), nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// Fingerprint tells hashes apart. It is a secret like the hash itself.
func (h *Hash) Fingerprint() string {
	if h.scheme == Bcrypt {
		return h.text
	}
	return string(h.scheme) + string(h.salt) + string(h.key)
}
