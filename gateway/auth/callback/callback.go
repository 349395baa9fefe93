// Package callback asks HTTP servers questions that have a yes or a no for an
// answer.
package callback

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Form is how a question is put.
type Form string

// Response is where the answer is.
type Response string

const (
	JSON Form = "json" // POST, a JSON object
	Post Form = "form" // POST, the fields of an HTML form
	Get  Form = "get"  // GET, the fields in the query

	// ByStatus: 2xx is yes, 404 ignores, any other 4xx is no. A JSON object in
	// the body of a 2xx is read like with ByJSON.
	ByStatus Response = "status"
	// ByJSON: 2xx with {"result": "allow" | "deny" | "ignore"} or {"ok": true |
	// false}; an answer without either is none.
	ByJSON Response = "json"
	// ByText: 2xx with the body "ok" is yes, with any other one no.
	ByText Response = "text"
)

// Result is a yes, a no, or no opinion.
type Result uint8

const (
	Ignore Result = iota
	Allow
	Deny
)

// Options of an [Endpoint].
type Options struct {
	// URL of http or https. Required.
	URL string
	// Form and Response default to JSON and ByStatus.
	Form     Form
	Response Response
	// Token goes into the header Authorization, as Bearer. Empty: no header.
	Token string
	// Timeout is how long an answer may take, with the wait for a slot.
	// Default: 1.5 s.
	Timeout time.Duration
	// Slots bounds the questions at one time, by its capacity. Endpoints may
	// share one. Nil: any number.
	Slots chan struct{}
}

// Endpoint is one URL that is asked. It may be used concurrently.
type Endpoint struct {
	o      Options
	client *http.Client
}

// Field is a part of a question. The value is a string, a number or a bool.
type Field struct {
	Name  string
	Value any
}

// Answer is what came back. All but the result is optional, and comes in a JSON
// object only.
type Answer struct {
	Result Result
	// User is who the client is, if not who it says.
	User string
	// Expires is when the answer ends, in seconds since 1970; 0: never.
	Expires int64
	// Filters of topics that the client may use; nil: nothing is said of it.
	Publish, Subscribe, Receive []string
}

// maxAnswer is how much of an answer is read.
const maxAnswer = 256 << 10

// New checks the options. It asks nobody.
func New(o Options) (*Endpoint, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not a URL of http or https")
	}
	if o.Timeout <= 0 {
		o.Timeout = 1500 * time.Millisecond
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = max(cap(o.Slots), 2)
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Endpoint{o: o, client: c}, nil
}

// Ask puts a question. An error means that there is no answer; it repeats
// nothing of what was asked.
func (e *Endpoint) Ask(ctx context.Context, question []Field) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	if e.o.Slots != nil {
		select {
		case e.o.Slots <- struct{}{}:
			defer func() { <-e.o.Slots }()
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("waiting for other questions: %w", ctx.Err())
		}
	}
	r, err := e.request(ctx, question)
	if err != nil {
		return Answer{}, err
	}
	answer, err := e.client.Do(r)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, err
	}
	if len(body) > maxAnswer {
		return Answer{}, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	return e.read(answer, body)
}

// withoutURL drops the URL from an error of the client: with [Get], it holds
// what was asked.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (e *Endpoint) request(ctx context.Context, question []Field) (*http.Request, error) {
	target, method, kind := e.o.URL, http.MethodPost, "application/json"
	var body []byte
	if e.o.Form == Post || e.o.Form == Get {
		values := url.Values{}
		for _, f := range question {
			values.Set(f.Name, fmt.Sprint(f.Value))
		}
		body, kind = []byte(values.Encode()), "application/x-www-form-urlencoded"
	} else {
		object := make(map[string]any, len(question))
		for _, f := range question {
			object[f.Name] = f.Value
		}
		var err error
		if body, err = json.Marshal(object); err != nil {
			return nil, err
		}
	}
	if e.o.Form == Get {
		method, kind = http.MethodGet, ""
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		target, body = target+sep+string(body), nil
	}
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if e.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+e.o.Token)
	}
	return r, nil
}

// read makes sense of an answer. What it does not understand is none.
func (e *Endpoint) read(r *http.Response, body []byte) (Answer, error) {
	switch {
	case r.StatusCode == http.StatusNotFound:
		return Answer{Result: Ignore}, nil
	case r.StatusCode == http.StatusRequestTimeout, r.StatusCode == http.StatusTooManyRequests:
		return Answer{}, fmt.Errorf("answer %s", r.Status)
	case r.StatusCode >= 400 && r.StatusCode < 500:
		return Answer{Result: Deny}, nil
	case r.StatusCode < 200 || r.StatusCode > 299:
		return Answer{}, fmt.Errorf("answer %s", r.Status)
	}
	switch e.o.Response {
	case ByText:
		if strings.TrimSpace(string(body)) == "ok" {
			return Answer{Result: Allow}, nil
		}
		return Answer{Result: Deny}, nil
	case ByJSON:
		return readJSON(body, false)
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/json" && len(bytes.TrimSpace(body)) > 0 {
		return readJSON(body, true)
	}
	return Answer{Result: Allow}, nil
}

func readJSON(body []byte, allowed bool) (Answer, error) {
	var o struct {
		Result                      *string
		OK                          *bool
		User                        string
		Expires                     int64
		Publish, Subscribe, Receive []string
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return Answer{}, errors.New("answer is not the JSON object that was expected")
	}
	a := Answer{User: o.User, Expires: o.Expires, Publish: o.Publish, Subscribe: o.Subscribe, Receive: o.Receive}
	switch {
	case o.Result != nil:
		results := map[string]Result{"allow": Allow, "deny": Deny, "ignore": Ignore}
		r, ok := results[*o.Result]
		if !ok {
			return Answer{}, fmt.Errorf("result %.20q; allowed is allow, deny and ignore", *o.Result)
		}
		a.Result = r
	case o.OK != nil && *o.OK, o.OK == nil && allowed:
		a.Result = Allow
	case o.OK != nil:
		a.Result = Deny
	default:
		return Answer{}, errors.New("answer has neither result nor ok")
	}
	return a, nil
}
