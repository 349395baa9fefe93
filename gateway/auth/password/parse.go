package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// The most that one verification may cost: whoever can write the file could
// otherwise stop the process with a line, on purpose or by mistake.
const (
	maxMemory     = 1 << 20 // KiB, Argon2: 1 GiB
	maxPasses     = 1000    // Argon2
	maxIterations = 10_000_000
	maxBcrypt     = 16 // a cost of 16 takes seconds
	maxKey        = 1024
)

// Parse reads the text of a hash. The error never repeats it.
func Parse(text string) (*Hash, error) {
	h, err := parse(text)
	if err != nil {
		return nil, err
	}
	if h.scheme != Bcrypt && (len(h.key) < 16 || len(h.key) > maxKey || len(h.salt) > maxKey) {
		return nil, fmt.Errorf("%s: key or salt has a wrong length", h.scheme)
	}
	if h.scheme != Bcrypt && (h.iterations < 1 || h.iterations > maxIterations) {
		return nil, fmt.Errorf("%s: %d iterations; allowed is 1 to %d", h.scheme, h.iterations, maxIterations)
	}
	return h, nil
}

func parse(text string) (*Hash, error) {
	if rest, ok := strings.CutPrefix(text, "SCRAM-SHA-256$"); ok {
		return parseSCRAM(rest)
	}
	parts := strings.Split(text, "$")
	if len(parts) < 4 || parts[0] != "" {
		return nil, errors.New("not a hash")
	}
	switch id := parts[1]; id {
	case "argon2id", "argon2i":
		return parseArgon2(Scheme(id), parts[2:])
	case "2a", "2b", "2x", "2y":
		cost, err := bcrypt.Cost([]byte(text))
		if err != nil || cost > maxBcrypt || len(text) != 60 {
			return nil, fmt.Errorf("bcrypt: not a hash with a cost of at most %d", maxBcrypt)
		}
		return &Hash{scheme: Bcrypt, text: text}, nil
	case "7":
		return parsePBKDF2(parts[2:])
	case "6":
		return parseSix(parts[2:])
	default:
		return nil, errors.New("unknown scheme; known are argon2id, argon2i, bcrypt, pbkdf2, scram-sha-256, sha512 and sha512-crypt")
	}
}

// parseArgon2 reads v=19$m=65536,t=3,p=4$salt$key.
func parseArgon2(s Scheme, parts []string) (*Hash, error) {
	h := &Hash{scheme: s}
	if len(parts) != 4 || parts[0] != "v=19" {
		return nil, fmt.Errorf("%s: not v=19$m=…,t=…,p=…$salt$key", s)
	}
	for field := range strings.SplitSeq(parts[1], ",") {
		name, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%s: not a number: %s", s, name)
		}
		switch name {
		case "m":
			h.memory = uint32(n)
		case "t":
			h.iterations = int(n)
		case "p":
			h.threads = uint8(min(n, math.MaxUint8))
		}
	}
	if h.threads < 1 || h.iterations > maxPasses || h.memory > maxMemory {
		return nil, fmt.Errorf("%s: allowed is t up to %d, m up to %d, p of at least 1", s, maxPasses, maxMemory)
	}
	return h, h.decode(base64.RawStdEncoding, parts[2], parts[3])
}

// parsePBKDF2 reads Mosquitto's iterations$salt$key.
func parsePBKDF2(parts []string) (*Hash, error) {
	if len(parts) != 3 {
		return nil, errors.New("pbkdf2: not iterations$salt$key")
	}
	n, err := strconv.Atoi(parts[0])
	if err != nil {
		return nil, errors.New("pbkdf2: iterations are not a number")
	}
	h := &Hash{scheme: PBKDF2, iterations: n}
	return h, h.decode(base64.StdEncoding, parts[1], parts[2])
}

// parseSix tells the two formats that begin with "$6$" apart: Mosquitto's key
// is Base64 with padding, which the alphabet of crypt(3) does not have.
func parseSix(parts []string) (*Hash, error) {
	if len(parts) == 2 && strings.HasSuffix(parts[1], "==") {
		h := &Hash{scheme: SHA512, iterations: 1}
		return h, h.decode(base64.StdEncoding, parts[0], parts[1])
	}
	h := &Hash{scheme: SHA512Crypt, iterations: 5000}
	if rounds, ok := strings.CutPrefix(parts[0], "rounds="); ok {
		n, err := strconv.Atoi(rounds)
		if err != nil {
			return nil, errors.New("sha512-crypt: rounds are not a number")
		}
		h.iterations = max(n, 1000)
		parts = parts[1:]
	}
	if len(parts) != 2 || len(parts[1]) != 86 || len(parts[0]) > 16 {
		return nil, errors.New("sha512-crypt: not salt$key")
	}
	h.salt, h.key = []byte(parts[0]), []byte(parts[1])
	return h, nil
}

// parseSCRAM reads iterations:salt$storedKey:serverKey.
func parseSCRAM(text string) (*Hash, error) {
	wrong := errors.New("scram-sha-256: not iterations:salt$storedKey:serverKey")
	first, second, ok := strings.Cut(text, "$")
	n, salt, ok2 := strings.Cut(first, ":")
	stored, server, ok3 := strings.Cut(second, ":")
	iterations, err := strconv.Atoi(n)
	if !ok || !ok2 || !ok3 || err != nil || iterations < 4096 { // RFC 7677 §4
		return nil, wrong
	}
	h := &Hash{scheme: SCRAM, iterations: iterations}
	if h.serverKey, err = base64.StdEncoding.DecodeString(server); err != nil || len(h.serverKey) != 32 {
		return nil, wrong
	}
	return h, h.decode(base64.StdEncoding, salt, stored)
}

func (h *Hash) decode(e *base64.Encoding, salt, key string) error {
	var err error
	if h.salt, err = e.DecodeString(salt); err != nil {
		return fmt.Errorf("%s: salt is not Base64", h.scheme)
	}
	if h.key, err = e.DecodeString(key); err != nil {
		return fmt.Errorf("%s: key is not Base64", h.scheme)
	}
	return nil
}
