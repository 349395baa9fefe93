package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// browser is the Chromium of the test that started it last. Its tabs are the
// connections.
var browser struct {
	sync.Mutex
	ctx  context.Context // nil where no test has started it
	site string
	idle []context.Context // tabs that are not in use: a new one takes its time
}

// findChromium returns the browser's path.
func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("needs chromium")
}

// startBrowser starts the browser, with a new profile, and the web site with the
// page, until the test ends. Tests that use it do not run side by side; their
// subtests may.
func startBrowser(t testing.TB) {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		missing(t, err.Error())
	}
	if _, err := programs["mqttjs"](); err != nil {
		missing(t, err.Error())
	}
	handler := http.NewServeMux()
	handler.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "mqttjs/page.html") })
	handler.HandleFunc("/mqtt.min.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "mqttjs/node_modules/mqtt/dist/mqtt.min.js")
	})
	site := httptest.NewServer(handler)
	t.Cleanup(site.Close)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("process-per-site", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	ctx, release := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(release)
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	browser.Lock()
	defer browser.Unlock()
	browser.ctx, browser.site = ctx, site.URL
	t.Cleanup(func() {
		browser.Lock()
		defer browser.Unlock()
		browser.ctx, browser.idle = nil, nil
		if err := chromedp.Cancel(ctx); err != nil { // waits for its end
			t.Errorf("stop the browser: %v", err)
		}
	})
}

// page is a connection in a page of the browser. It is used as a person would use
// it: values into fields, clicks on buttons, and what came is read from the list.
type page struct {
	ctx       context.Context
	published int
	read      int    // messages taken from the list
	items     []item // taken, and not yet returned
}

func openPage(t testing.TB, c line.Connect) (*page, error) {
	t.Helper()
	p := &page{}
	var err error
	if p.ctx, err = openTab(t); err != nil {
		return nil, err
	}
	if err := p.send("connect", "url", c.URL, "version", fmt.Sprint(c.Version), "client", c.ClientID); err != nil {
		return nil, err
	}
	if status, err := p.output("status", "connecting"); err != nil || status != "connected" {
		return nil, fmt.Errorf("page says %q: %w", status, err)
	}
	return p, nil
}

// openTab returns a tab with the page, which is this test's until its end. What was
// in it goes with the next connection.
func openTab(t testing.TB) (tab context.Context, err error) {
	t.Helper()
	browser.Lock()
	ctx, site := browser.ctx, browser.site
	if n := len(browser.idle); n > 0 {
		tab, browser.idle = browser.idle[n-1], browser.idle[:n-1]
	}
	browser.Unlock()
	if ctx == nil {
		return nil, errors.New("startBrowser first")
	}
	if tab == nil {
		tab, _ = chromedp.NewContext(ctx)        // closed with the browser
		if err := chromedp.Do(tab); err != nil { // opens it
			return nil, err
		}
		if err := (&page{ctx: tab}).do(chromedp.Navigate(site)); err != nil {
			return nil, err
		}
	}
	t.Cleanup(func() {
		browser.Lock()
		defer browser.Unlock()
		browser.idle = append(browser.idle, tab)
	})
	return tab, nil
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// send fills in a form, given as pairs of a field's id and value, and clicks its
// button.
func (p *page) send(form string, fields ...string) error {
	if _, err := poll[bool](p, `(fields) => {
		for (let i = 0; i < fields.length; i += 2) document.getElementById(fields[i]).value = fields[i + 1]
		return true
	}`, fields); err != nil {
		return err
	}
	return p.do(chromedp.Click(chromedp.CSS("#" + form + " button")))
}

// poll calls a JavaScript function at every change of the page until what it
// returns is true, and returns that.
func poll[T any](p *page, function string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.PollFunction[T](function, chromedp.WithPollingMutation(), chromedp.WithPollingArgs(args...)))
}

// output waits until the output with this id says something else than before.
func (p *page) output(id, before string) (string, error) {
	return poll[string](p, `(id, before) => {
		const text = document.getElementById(id).value
		return text !== before && text
	}`, id, before)
}

func (p *page) subscribe(id int, filters []line.Filter) ([]int, error) {
	if id != 0 {
		return nil, errors.New("the page sends no subscription identifier")
	}
	var codes []int
	for _, f := range filters {
		if err := p.send("subscribe", "filter", f.Filter, "filter-qos", fmt.Sprint(f.QoS)); err != nil {
			return nil, err
		}
		text, err := p.output("granted", "")
		if err != nil {
			return nil, err
		}
		var code int
		if _, err := fmt.Sscan(text, &code); err != nil {
			return nil, fmt.Errorf("page says %q", text)
		}
		codes = append(codes, code)
	}
	return codes, nil
}

// publish has the page send messages that differ in their payload only together:
// it takes one from each line.
func (p *page) publish(messages []line.Message) error {
	for len(messages) > 0 {
		first, n := messages[0], 0
		var lines []string
		for _, m := range messages {
			if m.Topic != first.Topic || m.QoS != first.QoS || m.Retain != first.Retain {
				break
			}
			lines = append(lines, string(m.Payload))
			n++
		}
		if err := p.send("publish", "topic", first.Topic, "payloads", strings.Join(lines, "\n"),
			"qos", fmt.Sprint(first.QoS), "retain", fmt.Sprint(first.Retain)); err != nil {
			return err
		}
		before := p.published
		p.published += n
		text, err := p.output("published", fmt.Sprint(before))
		if err != nil || text != fmt.Sprint(p.published) {
			return fmt.Errorf("page says %q messages were published, want %d: %w", text, p.published, err)
		}
		messages = messages[n:]
	}
	return nil
}

// item is an entry of the page's list: its text and the data kept with it.
type item struct {
	Text   string `json:"text"`
	Topic  string `json:"topic"`
	QoS    string `json:"qos"`
	Retain string `json:"retain"`
	Dup    string `json:"dup"`
}

// event takes all that is new in the list, and returns one after the other.
func (p *page) event() (line.Report, error) {
	if len(p.items) == 0 {
		var err error
		if p.items, err = poll[[]item](p, `(n) => {
			const items = [...document.querySelectorAll('#messages li')].slice(n)
			return items.length > 0 && items.map((one) => ({ text: one.firstChild.data, ...one.dataset }))
		}`, p.read); err != nil {
			return line.Report{}, err
		}
		p.read += len(p.items)
	}
	seen := p.items[0]
	p.items = p.items[1:]
	return line.Report{Message: &line.Message{
		Topic: seen.Topic, Payload: []byte(seen.Text), QoS: number(seen.QoS),
		Retain: seen.Retain == "true", Dup: seen.Dup == "true",
	}}, nil
}

func (p *page) disconnect(reason int) error {
	if reason != 0 {
		return errors.New("the page disconnects with reason 0 only")
	}
	if err := p.do(chromedp.Click(chromedp.ID("disconnect"))); err != nil {
		return err
	}
	if status, err := p.output("status", "connected"); err != nil || status != "closed" {
		return fmt.Errorf("page says %q: %w", status, err)
	}
	return nil
}

func (p *page) unsubscribe([]line.Filter) error {
	return errors.New("the page does not unsubscribe")
}

// kill closes the tab, and with it the WebSocket, without DISCONNECT.
func (p *page) kill() { chromedp.Cancel(p.ctx) }
