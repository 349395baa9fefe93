package admin_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// browse opens the status page of a gateway in Chromium, with a new profile. What
// the page complains about, errors and what its policy forbids, fails the test.
func browse(t *testing.T, url string) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("needs chromium")
		}
		t.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, release := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(release)
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil { // the browser lives as long as this context
		t.Fatalf("start %s: %v", path, err)
	}
	p := &tab{t: t, ctx: ctx}
	p.do(chromedp.EmulateViewport(1440, 900))
	p.do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: complaints})
		return chromedp.Void{}, err
	})
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits for its end
			t.Errorf("stop the browser: %v", err)
		}
	})
	p.do(chromedp.Navigate(url))
	return p
}

// complaints collects what goes wrong in a page.
const complaints = `window.complaints = []
addEventListener('error', (e) => complaints.push(String(e.message)))
addEventListener('unhandledrejection', (e) => complaints.push(String(e.reason)))
document.addEventListener('securitypolicyviolation', (e) => complaints.push(e.violatedDirective + ' ' + e.blockedURI))`

// tab is the page as a person uses it.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until a JavaScript expression is true, and returns its value.
func await[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.PollFunction[T]("() => "+expression, chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		text, _ := chromedp.Run(p.ctx, chromedp.PollFunction[string]("() => document.body.innerText || ' '"))
		p.t.Fatalf("never: %s: %v\nthe page says:\n%s", expression, err, text)
	}
	return v
}

func (p *tab) click(selector string) { p.t.Helper(); p.do(chromedp.Click(chromedp.CSS(selector))) }

// enter fills in a field, as if typed.
func (p *tab) enter(selector, value string) {
	p.t.Helper()
	await[bool](p, fmt.Sprintf(`{ const f = document.querySelector(%q); f.value = %q; f.dispatchEvent(new Event('input', { bubbles: true })); return true }`, selector, value))
}

// shoot keeps a screenshot where ADMIN_SCREENSHOTS names a directory.
func (p *tab) shoot(name string) {
	dir := os.Getenv("ADMIN_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for _, size := range []struct {
			name  string
			width int64
		}{{"wide", 1440}, {"phone", 390}} {
			p.do(chromedp.EmulateViewport(size.width, 900))
			await[bool](p, `[...document.querySelectorAll('#charts img')].every((i) => i.complete)`)
			time.Sleep(2500 * time.Millisecond) // for a person to look at; nothing is tested by it
			png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				p.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+size.name+"-"+scheme+".png"), png, 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	p.scheme("light")
	p.do(chromedp.EmulateViewport(1440, 900))
}

func (p *tab) scheme(name string) {
	p.t.Helper()
	p.do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return chromedp.Void{}, err
	})
}

// traffic keeps a cluster busy until the test ends: rooms that tell their
// temperature, a slow subscriber, and somebody who is away.
func traffic(t *testing.T, c *harness.Cluster) {
	t.Helper()
	stop := make(chan struct{})
	var busy sync.WaitGroup
	t.Cleanup(func() { close(stop); busy.Wait() })
	durable := wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}
	away := wire.Dial(t, c.Gateways[0].TCP).Connect(wire.Connect{ClientID: "archive-nightly", Version: wire.V5, Props: durable})
	away.Subscribe("plant/+/temperature", 1)
	away.Disconnect()
	user := "plant"
	for i := range 24 {
		g := c.Gateways[i%len(c.Gateways)]
		w := wire.Dial(t, g.TCP).Connect(wire.Connect{ClientID: fmt.Sprintf("sensor-%02d", i), Version: wire.V5, Clean: true, Username: &user})
		if i%3 == 0 {
			w.Subscribe("plant/#", 0)
		}
		conn := w.Conn()
		conn.SetDeadline(time.Time{})
		busy.Go(func() { // until stop
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(40+(n*7+i*13)%60) * time.Millisecond):
				}
				packet := wire.Encode(wire.Publish{Topic: fmt.Sprintf("plant/%d/temperature", i), QoS: byte(i % 2), ID: uint16(n%60000 + 1), Payload: "21.5"}, wire.V5)
				if _, err := conn.Write(packet); err != nil {
					return
				}
			}
		})
		busy.Go(func() { // until the connection ends with the test, or stop
			b := make([]byte, 64<<10)
			for {
				conn.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := conn.Read(b); err != nil && !os.IsTimeout(err) {
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
}

// TestPage looks at a busy cluster, finds a client with a hostile name, sends it
// away, and talks MQTT through the page.
func TestPage(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 3, Env: []string{"HTTP_TOKEN=" + token, "AUTH_ANONYMOUS=true"}})
	traffic(t, c)
	evil := wire.Dial(t, c.Gateways[1].TCP).Connect(wire.Connect{ClientID: `<script>document.title="owned"</script>`, Version: wire.V5, Clean: true})
	evil.Subscribe(`<img src=x onerror="document.title='owned'">/#`, 0)
	evil.PublishPacket(wire.Publish{Topic: "door/<b>1</b>", QoS: 1, Retain: true, Payload: "<i>open</i>"})

	p := browse(t, c.Gateways[0].HTTP+"/")
	testOverview(p)
	p.click(`nav a[href="#clients"]`)
	testClientView(p, evil)
	testTopicView(p)
	testBanView(p)
	testTryView(p, c.Gateways[2])
	if wrong := await[string](p, `'complaints: ' + window.complaints.join()`); wrong != "complaints: " {
		t.Error(wrong)
	}
	if title := await[string](p, "document.title"); strings.Contains(title, "owned") {
		t.Errorf("a client's name was run: %q", title)
	}
	c.Gateways[2].Kill(t)
	p.click(`nav a[href="#overview"]`)
	await[bool](p, `[...document.querySelectorAll('#events li')].some((l) => /silent|lease ended|left/.test(l.innerText))`)
}

func testOverview(p *tab) {
	p.t.Helper()
	await[bool](p, `document.querySelectorAll('#gateways tbody .good').length === 3`)
	await[bool](p, `[...document.querySelectorAll('#charts img')].filter((i) => i.naturalWidth > 0).length === 6`)
	await[bool](p, `{ const t = [...document.querySelectorAll('.tile')].find((t) => t.innerText.startsWith('Messages in')); return parseFloat(t.querySelector('dd').innerText) > 50 }`)
	if os.Getenv("ADMIN_SCREENSHOTS") != "" {
		time.Sleep(40 * time.Second) // so that the charts have something to show
	}
	p.shoot("overview")
}

func testClientView(p *tab, evil *wire.Client) {
	p.t.Helper()
	await[bool](p, `document.getElementById('sign-in').open`)
	p.enter(`#sign-in input`, token)
	p.click(`#sign-in button[value=ok]`)
	await[bool](p, `document.querySelectorAll('#client-list tbody tr').length >= 26`)
	p.shoot("clients")
	p.enter(`#search input[name=contains]`, "<script>")
	await[bool](p, `document.querySelectorAll('#client-list tbody tr').length === 1 && document.querySelector('#client-list tbody button').innerText.startsWith('<script>')`)
	p.click(`#client-list tbody button`)
	await[bool](p, `document.querySelector('#client-detail').innerText.includes('<img src=x')`)
	p.shoot("client")
	p.click(`#client-detail .pair button:first-child`)
	await[bool](p, `document.getElementById('confirm').open`)
	p.click(`#confirm button[value=ok]`)
	evil.ExpectDisconnect(0x98)
	await[bool](p, `document.querySelector('#client-list tbody').innerText.includes('None')`)
}

func testTopicView(p *tab) {
	p.t.Helper()
	p.click(`nav a[href="#topics"]`)
	await[bool](p, `document.querySelector('#retained-list tbody').innerText.includes('<i>open</i>')`)
	p.enter(`#who input`, "plant/3/temperature")
	p.click(`#who button`)
	await[bool](p, `document.querySelectorAll('#who-list tbody tr').length === 9 && document.querySelector('#who-list').innerText.includes('archive-nightly')`)
	p.shoot("topics")
	p.click(`#retained-list tbody button`)
	await[bool](p, `document.getElementById('confirm').open`)
	p.click(`#confirm button[value=ok]`)
	await[bool](p, `!document.querySelector('#retained-list tbody').innerText.includes('open')`)
}

func testBanView(p *tab) {
	p.t.Helper()
	p.click(`nav a[href="#bans"]`)
	p.enter(`#ban input[name=value]`, "noisy-one")
	p.click(`#ban button`)
	await[bool](p, `document.querySelector('#ban-list tbody').innerText.includes('noisy-one')`)
	p.shoot("bans")
	p.click(`#ban-list tbody button`)
	await[bool](p, `document.querySelector('#ban-list tbody').innerText.includes('Nobody')`)
}

func testTryView(p *tab, other *harness.Gateway) {
	p.t.Helper()
	p.click(`nav a[href="#try"]`)
	p.click(`#connect button[name=connect]`)
	await[bool](p, `document.getElementById('try-state').innerText === 'connected'`)
	p.enter(`#subscribe input`, "chat/#")
	p.click(`#subscribe button`)
	await[bool](p, `document.querySelectorAll('#subscriptions li').length === 1`)
	peer := wire.Dial(p.t, other.TCP).Connect(wire.Connect{ClientID: "peer", Clean: true})
	peer.Subscribe("chat/#", 2)
	for qos := range 3 {
		p.enter(`#publish input[name=topic]`, fmt.Sprintf("chat/%d", qos))
		p.enter(`#publish textarea`, fmt.Sprintf("grüße %d", qos))
		p.enter(`#publish select`, fmt.Sprint(qos))
		p.click(`#publish button`)
		if got := peer.Receive(); got.Topic != fmt.Sprintf("chat/%d", qos) || got.Payload != fmt.Sprintf("grüße %d", qos) || int(got.QoS) != qos {
			p.t.Errorf("%+v", got)
		}
		await[bool](p, fmt.Sprintf(`[...document.querySelectorAll('#messages .in')].filter((m) => m.innerText.includes('chat/')).length === %d`, qos+1))
	}
	peer.Publish("chat/from", 2, "<b>hello</b>")
	await[bool](p, `[...document.querySelectorAll('#messages .in pre')].some((m) => m.innerText === '<b>hello</b>')`)
	p.shoot("try")
	p.click(`#subscriptions button`)
	await[bool](p, `document.querySelectorAll('#subscriptions li').length === 0`)
	p.click(`#try-close`)
	await[bool](p, `document.getElementById('try-state').innerText === 'disconnected'`)
}
