package callback

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestForms: the question arrives in each form, with the token, and the answer
// is read where it is.
func TestForms(t *testing.T) {
	t.Parallel()
	var got, answer, kind string
	status := 200
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("Authorization") + " " + string(body)
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer s.Close()
	for _, tt := range []struct {
		form     Form
		response Response
		path     string
		answer   string
		kind     string
		want     Result
		err      bool
		asked    string
	}{
		{"", "", "/u", "", "", Allow, false, `POST /u application/json Bearer t {"a":"x y","n":4}`},
		{Post, ByText, "/u", "ok\n", "", Allow, false, `POST /u application/x-www-form-urlencoded Bearer t a=x+y&n=4`},
		{Get, ByJSON, "/u", `{"ok":true}`, "", Allow, false, `GET /u?a=x+y&n=4  Bearer t `},
		{Get, ByJSON, "/u?k=1", `{"ok":false}`, "", Deny, false, `GET /u?k=1&a=x+y&n=4  Bearer t `},
		{JSON, ByText, "/", "no", "", Deny, false, ""},
		{JSON, ByText, "/", "", "", Deny, false, ""},
		{JSON, ByJSON, "/", "{}", "", 0, true, ""},
		{JSON, ByJSON, "/", "", "", 0, true, ""},
		{JSON, ByJSON, "/", `{"result":"ignore"}`, "", Ignore, false, ""},
		{JSON, ByStatus, "/", `{"result":"deny"}`, "application/json; charset=utf-8", Deny, false, ""},
		{JSON, ByStatus, "/", "<html>", "text/html", Allow, false, ""},
		{JSON, ByStatus, "/", strings.Repeat("x", maxAnswer+1), "", 0, true, ""},
	} {
		e, err := New(Options{URL: s.URL + tt.path, Form: tt.form, Response: tt.response, Token: "t", Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		answer, kind = tt.answer, tt.kind
		a, err := e.Ask(t.Context(), []Field{{"a", "x y"}, {"n", 4}})
		if a.Result != tt.want || (err != nil) != tt.err {
			t.Errorf("%.50q: %+v, %v", tt.answer, a, err)
		}
		if tt.asked != "" && got != tt.asked {
			t.Errorf("asked %q, want %q", got, tt.asked)
		}
	}
}

// TestSlots: no more questions at one time than allowed; who waits too long has
// no answer.
func TestSlots(t *testing.T) {
	t.Parallel()
	slots := make(chan struct{}, 1)
	e, err := New(Options{URL: "http://127.0.0.1:1/", Slots: slots, Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	slots <- struct{}{}
	if _, err := e.Ask(t.Context(), nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for other questions") {
		t.Error(err)
	}
	<-slots
	if _, err := e.Ask(t.Context(), nil); err == nil || len(slots) != 0 {
		t.Errorf("%v, %d slots in use", err, len(slots))
	}
}

// TestErrorsKeepSecrets: an error does not repeat the question.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	e, err := New(Options{URL: "http://127.0.0.1:1/", Form: Get})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Ask(t.Context(), []Field{{"password", "hunter2"}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	for _, u := range []string{"", "x", "ftp://host/", "http://", "http:///x", ":"} {
		if _, err := New(Options{URL: u}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
}
