package redis

import (
	"slices"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, tt := range []struct {
		url       string
		addresses []string
		user      string
		password  string
		db        int
		primary   string
		secure    string // server name, "-" for none
		clustered bool
	}{
		{url: "redis://127.0.0.1", addresses: []string{"127.0.0.1:6379"}},
		{url: "redis://host:7000/3", addresses: []string{"host:7000"}, db: 3},
		{url: "redis://:secret@host", addresses: []string{"host:6379"}, password: "secret"},
		{url: "rediss://me:s%40cret@host:7000", addresses: []string{"host:7000"}, user: "me", password: "s@cret", secure: "host"},
		{url: "redis://[::1]:7000", addresses: []string{"[::1]:7000"}},
		{url: "redis://[::1]", addresses: []string{"[::1]:6379"}},
		{url: "unix:///run/redis.sock", addresses: []string{"/run/redis.sock"}},
		{url: "redis://a:1,b:2,c", addresses: []string{"a:1", "b:2", "c:6379"}, clustered: true},
		{url: "redis://a:1?cluster=true", addresses: []string{"a:1"}, clustered: true},
		{url: "rediss://a:1,b:2", addresses: []string{"a:1", "b:2"}, clustered: true, secure: "-"},
		{url: "redis+sentinel://u:p@a,b:2/main", addresses: []string{"a:26379", "b:2"}, user: "u", password: "p", primary: "main"},
		{url: "redis+sentinel://a/main/4?tls=true", addresses: []string{"a:26379"}, primary: "main", db: 4, secure: "a"},
	} {
		a, err := parseURL(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		c := a.client
		if !slices.Equal(c.Addrs, tt.addresses) || c.Username != tt.user || c.Password != tt.password || c.DB != tt.db || c.MasterName != tt.primary || a.clustered != tt.clustered {
			t.Errorf("%s: %+v", tt.url, a)
		}
		if (c.TLSConfig != nil) != (tt.secure != "") {
			t.Errorf("%s: TLS %v", tt.url, c.TLSConfig)
		} else if c.TLSConfig != nil && c.TLSConfig.ServerName != strings.Trim(tt.secure, "-") {
			t.Errorf("%s: server name %q", tt.url, c.TLSConfig.ServerName)
		}
	}
}

func TestParseURLErrors(t *testing.T) {
	for url, want := range map[string]string{
		"http://host":                        "scheme",
		"redis://":                           "a host is missing",
		"redis://a,,b":                       "a host is missing",
		"redis://host/x":                     "not a number",
		"redis://host/-1":                    "not a number",
		"redis://host?timeout=3":             `parameter "timeout"`,
		"redis://host?pool_size=0":           "pool size",
		"redis+sentinel://host":              "name of the primary",
		"redis://a,b/3":                      "no database but 0",
		"redis://:hunter2\x7f@host":          "not one",
		"redis://me:hunter2@host/db/hunter2": "not a number",
	} {
		_, err := parseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2\x7f") {
			t.Errorf("%q: the error has the password: %v", url, err)
		}
	}
}
