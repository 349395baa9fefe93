package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// HTTPOptions of a [HTTP].
type HTTPOptions struct {
	// URL of http or https. Required.
	URL string
	// Token goes into the header Authorization, as Bearer. Empty: no header.
	Token string
	// Timeout is how long one request may take. Default 5 s.
	Timeout time.Duration
}

// HTTP is a [Sink] that posts batches to a URL. Any answer 2xx means that they
// were taken; 408, 429 and 5xx that they are to come again; any other one that
// they never will be. Redirections are not followed: the token is for one
// server.
type HTTP struct {
	o      HTTPOptions
	client *http.Client
}

// NewHTTP checks the options. It asks nobody.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not a URL of http or https")
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	c := &http.Client{
		Transport: t, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &HTTP{o: o, client: c}, nil
}

// Name is "http".
func (*HTTP) Name() string { return "http" }

// Send posts {"events": […]}.
func (h *HTTP) Send(ctx context.Context, records []Record) error {
	body, err := json.Marshal(struct {
		Events []Record `json:"events"`
	}{records})
	if err != nil {
		return &RefusedError{err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.o.URL, bytes.NewReader(body))
	if err != nil {
		return &RefusedError{err}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "sluice")
	if h.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+h.o.Token)
	}
	answer, err := h.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may have a secret in it
		}
		return err
	}
	defer answer.Body.Close()
	// A body that is read leaves the connection for the next request.
	io.CopyN(io.Discard, answer.Body, 64<<10)
	switch s := answer.StatusCode; {
	case s/100 == 2:
		return nil
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s >= 500:
		return fmt.Errorf("the answer was %s", answer.Status)
	}
	return &RefusedError{fmt.Errorf("the answer was %s", answer.Status)}
}
