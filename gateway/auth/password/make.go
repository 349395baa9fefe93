package password

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What a new hash costs. Argon2id is at the least that OWASP recommends (19 MiB,
// 2 passes), about 20 ms: whoever needs more has it by other means, and a
// gateway that restarts has many logins at once.
const (
	makeMemory     = 19 << 10
	makePasses     = 2
	makeBcrypt     = 11
	makeIterations = 210_000 // PBKDF2 with SHA-512, OWASP
	// SCRAMIterations is what RFC 7677 asks for; the client has to do them too.
	SCRAMIterations = 4096
	// SaltSize is that of new hashes, in bytes.
	SaltSize = 16
)

// Schemes are those that [Make] can make, the default first.
var Schemes = []Scheme{Argon2id, Bcrypt, PBKDF2, SCRAM}

// Make hashes a password with a new salt. The password is UTF-8 of at most
// [MaxLength] bytes, and of at most 72 with Bcrypt.
func Make(s Scheme, password []byte) (string, error) {
	switch {
	case len(password) == 0:
		return "", fmt.Errorf("the password is empty")
	case len(password) > MaxLength:
		return "", fmt.Errorf("the password has %d bytes; allowed is up to %d", len(password), MaxLength)
	case s == SCRAM && !printable(password):
		// RFC 5802 prepares others with SASLprep, in which clients differ.
		return "", fmt.Errorf("%s: allowed are passwords of printable ASCII characters", s)
	}
	salt := make([]byte, SaltSize)
	rand.Read(salt)
	raw, std := base64.RawStdEncoding.EncodeToString, base64.StdEncoding.EncodeToString
	switch s {
	case Argon2id:
		key := argon2.IDKey(password, salt, makePasses, makeMemory, 1, 32)
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", makeMemory, makePasses, raw(salt), raw(key)), nil
	case Bcrypt:
		b, err := bcrypt.GenerateFromPassword(password, makeBcrypt)
		return string(b), err
	case PBKDF2:
		key, err := pbkdf2.Key(sha512.New, string(password), salt, makeIterations, 64)
		return fmt.Sprintf("$7$%d$%s$%s", makeIterations, std(salt), std(key)), err
	case SCRAM:
		stored, server, err := scramKeys(password, salt, SCRAMIterations)
		return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", SCRAMIterations, std(salt), std(stored), std(server)), err
	}
	return "", fmt.Errorf("no hash %q; allowed are %v", s, Schemes)
}

func printable(password []byte) bool {
	for _, b := range password {
		if b < 0x20 || b >= 0x7F {
			return false
		}
	}
	return utf8.Valid(password)
}
