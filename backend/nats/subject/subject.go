// Package subject writes levels of MQTT topics as tokens of NATS subjects, and
// back.
//
// A level is a token: bytes that mean something in NATS become %XX, and the
// empty level is a lone '%'. So every topic has exactly one row of tokens, and
// every such row one topic.
package subject

import (
	"errors"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// AppendToken appends one level as a token.
func AppendToken(dst []byte, level string) []byte {
	if level == "" {
		return append(dst, '%')
	}
	for i := 0; i < len(level); i++ {
		switch c := level[i]; {
		case c <= ' ', c == 0x7f, c == '.', c == '*', c == '>', c == '%':
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// AppendLevels appends levels as tokens, each after a dot, "+" as the wildcard
// that it is in filters. In topics there is no "+" [MQTT-3.3.2-2]. It stops when
// more than limit bytes have come together.
func AppendLevels(dst []byte, levels string, limit int) []byte {
	for level := range strings.SplitSeq(levels, "/") {
		dst = append(dst, '.')
		if level == "+" {
			dst = append(dst, '*')
			continue
		}
		dst = AppendToken(dst, level)
		if len(dst) > limit {
			return dst
		}
	}
	return dst
}

var errToken = errors.New("a % in a subject stands alone in its token, or before two hexadecimal digits")

// Topic reads tokens, separated by dots, back. It takes small digits too, and
// bytes that need not have been escaped.
func Topic(tokens string) (string, error) {
	if !strings.Contains(tokens, "%") {
		return strings.ReplaceAll(tokens, ".", "/"), nil
	}
	b := make([]byte, 0, len(tokens))
	for i, n := 0, strings.Count(tokens, ".")+1; i < n; i++ {
		token, rest, _ := strings.Cut(tokens, ".")
		tokens = rest
		if i > 0 {
			b = append(b, '/')
		}
		if token == "%" {
			continue
		}
		var err error
		if b, err = Unescape(b, token); err != nil {
			return "", err
		}
	}
	return string(b), nil
}

// Unescape appends text, with each %XX as the byte that it stands for.
func Unescape(dst []byte, text string) ([]byte, error) {
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			dst = append(dst, text[i])
			continue
		}
		if i+2 >= len(text) {
			return dst, errToken
		}
		high, low := digit(text[i+1]), digit(text[i+2])
		if high < 0 || low < 0 {
			return dst, errToken
		}
		dst = append(dst, byte(high<<4|low))
		i += 2
	}
	return dst, nil
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// Escape appends text with %XX for each byte that a header of NATS can not have
// or would lose: controls, spaces and '%'.
func Escape(dst []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c == 0x7f || c == '%' {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
