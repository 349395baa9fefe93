package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	// apiBody bounds the body of a request: a message of 512 KiB in base64,
	// and some room.
	apiBody = 1 << 20
	// apiTime bounds the work for one request, below the server's own limit so
	// that the answer can say so.
	apiTime = 8 * time.Second
	// apiAtOnce bounds the requests that are worked on: who asks the store for
	// lists must not keep it from its work.
	apiAtOnce = 16
	// pageLimit and pageDefault are those of openapi.yaml.
	pageLimit   = 1000
	pageDefault = 100
	// subscriptionLimit is how many subscriptions of one session are shown.
	subscriptionLimit = 1000
)

// Cluster is what the API looks into and acts on; see the methods of
// [gateway.Gateway].
type Cluster interface {
	ID() backend.NodeID
	Cluster(ctx context.Context) ([]gateway.NodeState, error)
	Clients(ctx context.Context, q backend.SessionQuery) ([]gateway.ClientState, string, error)
	DescribeClient(ctx context.Context, id backend.ClientID, most int) (*gateway.ClientState, []backend.Subscription, error)
	Kick(ctx context.Context, id backend.ClientID) (bool, error)
	DestroySession(ctx context.Context, id backend.ClientID) (bool, error)
	Trace(ctx context.Context, id backend.ClientID, d time.Duration) ([]backend.NodeID, error)
	Publish(ctx context.Context, m *backend.Message) error
	StoreTime() time.Time
	Retained(ctx context.Context, filter, after string, most int) ([]*backend.Message, bool, error)
	DeleteRetained(ctx context.Context, topic string) (bool, error)
	Subscribers(ctx context.Context, topic string, most int) ([]backend.Subscriber, bool, []backend.NodeID, error)
	Bans(ctx context.Context, cursor string, most int) ([]backend.Ban, string, error)
	Ban(ctx context.Context, b backend.Ban) error
	Unban(ctx context.Context, kind backend.BanKind, value string) (bool, error)
}

//go:embed openapi.yaml
var openAPI []byte

// api serves what openapi.yaml describes.
type api struct {
	cluster Cluster
	token   [sha256.Size]byte
	slots   chan struct{}
}

// problem is an answer that says what went wrong (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func fault(status int, detail string) *problem {
	return &problem{http.StatusText(status), status, detail}
}

// operation handles one request: what it returns is answered as JSON, nothing
// as the status alone.
type operation struct {
	status int
	run    func(*api, *http.Request) (any, error)
}

// operations are those of openapi.yaml, by method and path.
var operations = map[string]operation{
	"GET /gateways":           {http.StatusOK, (*api).gateways},
	"GET /clients":            {http.StatusOK, (*api).clients},
	"GET /client":             {http.StatusOK, (*api).client},
	"DELETE /client":          {http.StatusNoContent, (*api).deleteSession},
	"POST /client/disconnect": {http.StatusAccepted, (*api).disconnect},
	"PUT /client/trace":       {http.StatusOK, (*api).trace},
	"POST /publish":           {http.StatusAccepted, (*api).publish},
	"GET /retained":           {http.StatusOK, (*api).retained},
	"DELETE /retained":        {http.StatusNoContent, (*api).deleteRetained},
	"GET /subscribers":        {http.StatusOK, (*api).subscribers},
	"GET /bans":               {http.StatusOK, (*api).bans},
	"PUT /bans":               {http.StatusNoContent, (*api).ban},
	"DELETE /bans":            {http.StatusNoContent, (*api).unban},
}

const apiPrefix = "/api/v1"

// register adds the API to a mux; without token or cluster it is off, and says
// so to whoever asks.
func registerAPI(mux *http.ServeMux, o Options) {
	mux.HandleFunc("GET "+apiPrefix+"/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Write(openAPI) // its only error is a client that left
	})
	if o.Token == "" || o.Cluster == nil {
		mux.HandleFunc(apiPrefix+"/", func(w http.ResponseWriter, _ *http.Request) {
			answerProblem(w, fault(http.StatusNotFound, "the API is off: HTTP_TOKEN is not set"))
		})
		return
	}
	a := &api{cluster: o.Cluster, token: sha256.Sum256([]byte(o.Token)), slots: make(chan struct{}, apiAtOnce)}
	// A page of another site can not know the token; that it can not even
	// send a request with side effects costs nothing.
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerProblem(w, fault(http.StatusForbidden, "request of another origin"))
	}))
	inner := http.NewServeMux()
	for pattern, op := range operations {
		method, path, _ := strings.Cut(pattern, " ")
		inner.Handle(method+" "+apiPrefix+path, a.handle(op))
	}
	inner.HandleFunc(apiPrefix+"/", func(w http.ResponseWriter, r *http.Request) {
		for pattern := range operations {
			if _, path, _ := strings.Cut(pattern, " "); r.URL.Path == apiPrefix+path {
				answerProblem(w, fault(http.StatusMethodNotAllowed, "not with this method"))
				return
			}
		}
		answerProblem(w, fault(http.StatusNotFound, "no such resource; see "+apiPrefix+"/openapi.yaml"))
	})
	mux.Handle(apiPrefix+"/", foreign.Handler(a.guarded(inner)))
}

// guarded lets in who has the token, so many at a time.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			answerProblem(w, fault(http.StatusUnauthorized, "the API wants: Authorization: Bearer HTTP_TOKEN"))
			return
		}
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			answerProblem(w, fault(http.StatusTooManyRequests, "too many requests at a time"))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), apiTime)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, apiBody)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// handle makes an operation a handler.
func (a *api) handle(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result, err := op.run(a, r)
		if err != nil {
			answerProblem(w, problemOf(err))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if result == nil {
			w.WriteHeader(op.status)
			return
		}
		answerJSON(w, op.status, "application/json", result)
	})
}

func answerProblem(w http.ResponseWriter, p *problem) {
	w.Header().Set("Cache-Control", "no-store")
	answerJSON(w, p.Status, "application/problem+json", p)
}

func answerJSON(w http.ResponseWriter, status int, kind string, v any) {
	text, err := json.Marshal(v)
	if err != nil { // no type of ours can not be encoded
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // its only error is a client that left
}

// problemOf says what an error of the cluster is in HTTP.
func problemOf(err error) *problem {
	var p *problem
	var bad *gateway.ConfigError
	var invalid *protocol.Error
	var refused *gateway.RefusalError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &bad):
		return fault(http.StatusBadRequest, bad.Error())
	case errors.As(err, &invalid):
		return fault(http.StatusBadRequest, invalid.Error())
	case errors.As(err, &refused) && refused.Code == protocol.QuotaExceeded:
		return fault(http.StatusConflict, refused.Reason)
	case errors.As(err, &refused):
		return fault(http.StatusBadRequest, refused.Error())
	case errors.Is(err, gateway.ErrNoDirectory):
		return fault(http.StatusNotImplemented, err.Error())
	case errors.Is(err, backend.ErrFull):
		return fault(http.StatusConflict, "a limit is reached")
	case errors.Is(err, backend.ErrTooLarge):
		return fault(http.StatusRequestEntityTooLarge, "the message is too large")
	case errors.Is(err, backend.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, gateway.ErrStopped):
		// What the driver says of its server is for the log, not for clients.
		return fault(http.StatusServiceUnavailable, "store or bus did not answer")
	}
	return fault(http.StatusInternalServerError, "failed")
}

// readJSON reads the body of a request.
func readJSON(r *http.Request, into any) error {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return fault(http.StatusUnsupportedMediaType, "Content-Type must be application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		err = errors.New("something follows the JSON value")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault(http.StatusRequestEntityTooLarge, "the body is above "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
	}
	return fault(http.StatusBadRequest, "body: "+err.Error())
}

// param returns a parameter of the query that must be there.
func param(r *http.Request, name string) (string, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return "", fault(http.StatusBadRequest, name+" is missing")
	}
	return v, nil
}

// limitOf returns the parameter limit.
func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return pageDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageLimit {
		return 0, fault(http.StatusBadRequest, "limit: allowed is 1 to "+strconv.Itoa(pageLimit))
	}
	return n, nil
}
