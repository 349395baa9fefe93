package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth"
	"github.com/sluice-mqtt/sluice/protocol"
)

const aclHelp = `Usage: gateway acl test [--user USER | --token FILE] [--client ID] ACTION TOPIC
       gateway acl list [--user USER]         print the rules in Redis, as a file of rules
       gateway acl add [--user USER] RULE     add a rule to them
       gateway acl remove [--user USER] RULE  remove a rule
       gateway acl clear --user USER          remove all rules of a user
       gateway acl import FILE                put the rules of a file in the place of all

test prints whether the configuration in force allows a client to publish to, to
subscribe to or to receive from a topic, and which rule says so. ACTION is
publish, subscribe or receive; to subscribe, TOPIC is a filter, with
$share/group/ if it is. Exit 0: allowed, 1: denied.

  --user USER   who was authenticated; without it, an anonymous client
  --token FILE  a JSON Web Token (-: on standard input): who its user is and what
                it allows, if it is good
  --client ID   its client identifier
  --file FILE   rules to ask instead of AUTH_ACL_FILE

The others are about the rules in Redis, at REDIS_URL, which a gateway with
AUTH_REDIS_ACL=true asks. RULE is a line of the file of rules: topic read home/#,
or pattern write devices/%c/# for all. Topic rules without USER are for anonymous
clients.
`

var aclActions = map[string]gateway.Action{
	"publish": gateway.Publish, "subscribe": gateway.Subscribe, "receive": gateway.Receive,
}

// aclFlags are the command line of acl.
type aclFlags struct {
	user, client, file, token string
	// words are the command, and what it is about.
	words []string
}

func aclCommand(p process) int {
	var f aclFlags
	flags := flag.NewFlagSet("acl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&f.user, "user", "", "")
	flags.StringVar(&f.client, "client", "", "")
	flags.StringVar(&f.file, "file", "", "")
	flags.StringVar(&f.token, "token", "", "")
	var err error
	f.words, err = parseAnywhere(flags, p.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(p.stdout, aclHelp)
		return exitOK
	case err != nil:
		return p.aclUsage(err)
	case len(f.words) == 0:
		return p.aclUsage(errors.New("test, list, add, remove, clear or import"))
	case f.words[0] == "test":
		return p.aclTest(f)
	}
	return p.aclEdit(f)
}

func (p process) aclUsage(err error) int {
	fmt.Fprintf(p.stderr, "acl: %v; see 'gateway acl --help'\n", err)
	return exitUsage
}

func (p process) aclTest(f aclFlags) int {
	if len(f.words) != 3 {
		return p.aclUsage(errors.New("test takes ACTION and TOPIC"))
	}
	if f.user != "" && f.token != "" {
		return p.aclUsage(errors.New("one of --user and --token"))
	}
	access := gateway.Access{Action: aclActions[f.words[1]], Topic: f.words[2]}
	if access.Action == 0 {
		return p.aclUsage(fmt.Errorf("no action %q; allowed is publish, subscribe and receive", f.words[1]))
	}
	var err error
	if access.Action == gateway.Subscribe {
		err = protocol.ValidFilter(access.Topic)
		_, access.Topic, access.Shared = protocol.SplitShare(access.Topic)
	} else {
		err = protocol.ValidTopicName(access.Topic)
	}
	if err != nil {
		return p.aclUsage(fmt.Errorf("%q: %v", f.words[2], err))
	}
	var c config
	if _, errs := load(p.environ, &c); len(errs) > 0 {
		return p.fail(errs...)
	}
	if f.file != "" {
		c.ACLFile = f.file
	}
	return p.explain(&c, f, access)
}

// explain answers one question.
func (p process) explain(c *config, f aclFlags, access gateway.Access) int {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	a := &authentication{log: slog.New(slog.DiscardHandler), hasher: auth.NewHasher(1, 0)}
	if errs := c.openPermissions(a); len(errs) > 0 {
		return p.fail(flatten(errors.Join(errs...))...)
	}
	answer := func(allowed bool, why string) int {
		if !allowed {
			fmt.Fprintf(p.stdout, "denied: %s\n", why)
			return exitFailed
		}
		fmt.Fprintf(p.stdout, "allowed: %s\n", why)
		return exitOK
	}
	client := &gateway.Client{ID: backend.ClientID(f.client), Principal: f.user}
	if f.token != "" {
		if why, err := p.tokenClient(ctx, c, a, f.token, client); err != nil {
			return p.fail(flatten(err)...)
		} else if why != "" {
			return answer(false, why)
		}
	}
	if why, err := c.knows(ctx, a, f.user); err != nil {
		return p.fail(flatten(err)...)
	} else if why != "" {
		return answer(false, why)
	}
	switch {
	case access.Action == gateway.Publish && strings.HasPrefix(access.Topic, "$") && !(c.DollarPublish && !strings.HasPrefix(access.Topic, "$SYS")):
		return answer(false, "clients do not publish to topics that begin with $ (MQTT_DOLLAR_PUBLISH; $SYS never)")
	case a.permissions != nil:
		return answer(a.permissions.Explain(ctx, client, access))
	}
	return answer(true, "nothing is configured that says who may do what")
}

// tokenClient makes client the one that a token names. Why is not empty if the
// token is refused.
func (p process) tokenClient(ctx context.Context, c *config, a *authentication, file string, client *gateway.Client) (why string, err error) {
	if !c.hasJWT() {
		return "", errors.New("--token needs AUTH_JWT_SECRET, AUTH_JWT_KEY_FILE or AUTH_JWT_JWKS_URL")
	}
	var text []byte
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(p.stdin, tokenMax))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", err
	}
	source, err := openJWT(c, a)
	if err != nil {
		return "", err
	}
	id, err := source.Authenticate(ctx, &gateway.ConnectRequest{Client: *client, Password: bytes.TrimSpace(text), HasPassword: true})
	var no *gateway.RefusalError
	switch {
	case errors.As(err, &no):
		return no.Reason, nil
	case errors.Is(err, auth.ErrIgnore):
		return "this is no token", nil
	case err != nil:
		return "", err
	}
	client.Principal, client.Data = id.Principal, id.Data
	return "", nil
}

// tokenMax is the length of the longest password in CONNECT.
const tokenMax = 65_535

// knows asks the directories of users for one. Why is not empty if there is none
// of that name, and nobody else could know one.
func (c *config) knows(ctx context.Context, a *authentication, user string) (why string, err error) {
	if user == "" {
		return "", nil
	}
	chain, err := c.chain()
	if err != nil || len(chain) == 0 {
		return "", err
	}
	var asked []string
	for _, s := range chain {
		if s.name != "file" && s.name != "redis" {
			return "", nil // it knows when it is asked with a password
		}
		if _, err := s.open(c, a); err != nil {
			return "", err
		}
		asked = append(asked, s.variable)
	}
	for _, d := range a.directories {
		h, err := d.Lookup(ctx, user)
		if h != nil || err != nil {
			return "", err
		}
	}
	return "there is no user " + user + " in " + strings.Join(asked, ", "), nil
}
