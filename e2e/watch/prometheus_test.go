package watch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafanaquery "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

const deploy = "../../deploy/"

// prometheus is a server that scrapes.
type prometheus struct{ base string }

// startPrometheus runs the configuration that docker-compose.yml uses, with a
// shorter interval and the gateways by address: there is no DNS that knows them.
func startPrometheus(t *testing.T, gateways []*harness.Gateway) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	shipped, err := os.ReadFile(deploy + "prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(deploy + "prometheus-rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(shipped), "_interval: 15s", "_interval: 1s")
	head, _, ok := strings.Cut(text, "    dns_sd_configs:")
	if !ok || !strings.Contains(text, "names: [gateway]") {
		t.Fatal("prometheus.yml does not find the gateways by DNS")
	}
	var targets []string
	for _, g := range gateways {
		targets = append(targets, strings.TrimPrefix(g.HTTP, "http://"))
	}
	head += "    static_configs:\n      - targets: [\"" + strings.Join(targets, `", "`) + "\"]\n"
	for name, content := range map[string]string{"prometheus.yml": head, "prometheus-rules.yml": string(rules)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // somebody else may take the port
		if p := tryPrometheus(t, path, dir); p != nil {
			return p
		}
	}
	t.Fatal("prometheus does not start")
	return nil
}

func tryPrometheus(t *testing.T, path, dir string) *prometheus {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }() // Ends with the process.
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("log of prometheus:\n%s", text)
		}
	})
	p := &prometheus{"http://" + address}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if answer, err := http.Get(p.base + "/-/ready"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return p
			}
		}
		select {
		case <-exited:
			return nil
		default:
		}
	}
	return nil
}

// query returns the values of an expression at this moment.
func (p *prometheus) query(t *testing.T, expression string) []string {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expression), &answer)
	if answer.Status != "success" {
		t.Errorf("%s: %s", expression, answer.Error)
	}
	var values []string
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values
}

func (p *prometheus) get(t *testing.T, path string, into any) {
	t.Helper()
	answer, err := http.Get(p.base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// await asks until the answer is as wanted.
func (p *prometheus) await(t *testing.T, expression, want string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = p.query(t, expression); len(got) == 1 && got[0] == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %s", expression, got, want)
}

// dashboard is the part of a dashboard of Grafana that is looked at.
type dashboard struct {
	Title, UID string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

type panel struct {
	ID              int
	Type, Title     string
	GridPos         struct{ H, W, X, Y int }
	Datasource      struct{ Type, UID string }
	Targets         []struct{ Expr, LegendFormat, RefID string }
	FieldConfig     struct{ Defaults struct{ Unit string } }
	Panels, Options any
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

const dashboardFile = deploy + "grafana/dashboards/sluice.json"

// TestDashboardForm: the dashboard is one by Grafana's own types, and has what is
// needed to be shown as it was meant: panels with numbers of their own that do not lie on each other, on the data
// source that is chosen, with a query, a unit and a legend.
func TestDashboardForm(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(grafanaquery.VariantConfig())
	//lint:ignore SA1019 the file is in the older of the two forms, which every Grafana takes
	var whole grafana.Dashboard
	for _, err := range []error{whole.UnmarshalJSONStrict(text), whole.Validate()} {
		if err != nil && err.Error() != "" { // an empty list of faults is an error too
			t.Errorf("Grafana: %v", err)
		}
	}
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || len(d.Panels) < 20 {
		t.Errorf("dashboard %q %q with %d panels", d.UID, d.Title, len(d.Panels))
	}
	seen, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || seen[p.ID] {
			t.Errorf("%s has the number %d", p.Title, p.ID)
		}
		seen[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || p.Title == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, lacks something", p.ID, p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.Expr == "" || q.LegendFormat == "" || refs[q.RefID] {
				t.Errorf("panel %q: query %+v", p.Title, q)
			}
			refs[q.RefID] = true
		}
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}
	if got := strings.Join(variables, ", "); got != "datasource datasource, gateway query" {
		t.Errorf("variables %s", got)
	}
}

var metricName = regexp.MustCompile(`\b(sluice|process|go)_[a-z_]+`)

// TestPrometheus: a Prometheus with the configuration in deploy scrapes a
// cluster, and every query of the dashboard and every alert finds what it asks
// for.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Env: []string{
		"EVENTS_NATS=true", "NATS_BRIDGE_PREFIX=mqtt", "MQTT_SYS_INTERVAL=1s", "AUTH_ANONYMOUS=true", "AUTH_JWT_SECRET=0123456789abcdef0123456789abcdef",
	}})
	for _, g := range c.Gateways {
		client := durable(t, g, wire.Unique("seen"), true)
		client.Subscribe("seen/+", 2)
		client.Subscribe("$share/group/seen/1", 1)
		for qos := range byte(3) {
			client.Publish(fmt.Sprint("seen/", qos), qos, "x")
		}
		wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("seen"), Clean: true}).Disconnect()
	}
	away := durable(t, c.Gateways[0], wire.Unique("away"), true)
	away.Subscribe("elsewhere", 1)
	away.Disconnect()
	p := startPrometheus(t, c.Gateways)
	p.await(t, `count(count_over_time(sluice_ready{job="sluice"}[5m]) >= 3)`, "2")
	p.await(t, `sum(sluice_connections)`, "2")
	p.await(t, `sum(sluice_publishes_received_total{qos="1"})`, "2")
	p.await(t, `min(sluice_sessions_all) == max(sluice_sessions_all)`, "3") // the cluster's, at each gateway

	exists := map[string]bool{}
	check := func(what, expression string) {
		for _, name := range metricName.FindAllString(expression, -1) {
			if _, asked := exists[name]; !asked {
				exists[name] = len(p.query(t, "count("+name+")")) > 0
			}
			if !exists[name] {
				t.Errorf("%s: there is no metric %s", what, name)
			}
		}
	}
	for _, panel := range readDashboard(t).Panels {
		for _, q := range panel.Targets {
			expression := strings.NewReplacer("$__rate_interval", "1m", "$gateway", ".*").Replace(q.Expr)
			check(panel.Title, expression)
			// "> 0" shows only what there is, and all is well here.
			if got := p.query(t, expression); len(got) == 0 && !strings.HasSuffix(expression, "> 0") {
				t.Errorf("%s: nothing comes of %s", panel.Title, expression)
			}
		}
	}

	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query, Health, LastError, State string }
			}
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		text := ""
		p.get(t, "/api/v1/rules", &answer)
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				text += r.Health
			}
		}
		if text != "" && !strings.Contains(text, "unknown") || time.Now().After(deadline) {
			break
		}
	}
	rules := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			rules++
			check(r.Name, r.Query)
			if r.Health != "ok" || r.State != "inactive" {
				t.Errorf("%s: %s, %s %s", r.Name, r.State, r.Health, r.LastError)
			}
		}
	}
	if rules < 5 {
		t.Errorf("%d alerts", rules)
	}
}
