package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

const aclHelp = `Usage: gateway acl test [--user USER] [--client ID] ACTION TOPIC

Prints whether the configuration in force allows a client to publish to, to
subscribe to or to receive from a topic, and which rule says so. ACTION is
publish, subscribe or receive; to subscribe, TOPIC is a filter, with
$share/group/ if it is. Exit 0: allowed, 1: denied.

  --user USER  who was authenticated; without it, an anonymous client
  --client ID  its client identifier
  --file FILE  rules to ask instead of AUTH_ACL_FILE
`

var aclActions = map[string]gateway.Action{
	"publish": gateway.Publish, "subscribe": gateway.Subscribe, "receive": gateway.Receive,
}

func aclCommand(p process) int {
	flags := flag.NewFlagSet("acl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	user := flags.String("user", "", "")
	client := flags.String("client", "", "")
	file := flags.String("file", "", "")
	args, err := parseAnywhere(flags, p.args)
	usage := func(format string, more ...any) int {
		fmt.Fprintf(p.stderr, "acl: "+format+"; see 'gateway acl --help'\n", more...)
		return exitUsage
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, aclHelp)
		return exitOK
	case err != nil:
		return usage("%v", err)
	case len(args) == 0 || args[0] != "test":
		return usage("the one thing it does is test")
	case len(args) != 3:
		return usage("test takes ACTION and TOPIC")
	}
	access := gateway.Access{Action: aclActions[args[1]], Topic: args[2]}
	if access.Action == 0 {
		return usage("no action %q; allowed is publish, subscribe and receive", args[1])
	}
	if access.Action == gateway.Subscribe {
		err = protocol.ValidFilter(access.Topic)
		_, access.Topic, access.Shared = protocol.SplitShare(access.Topic)
	} else {
		err = protocol.ValidTopicName(access.Topic)
	}
	if err != nil {
		return usage("%q: %v", args[2], err)
	}
	var c config
	if _, errs := load(p.environ, &c); len(errs) > 0 {
		return p.fail(errs...)
	}
	if *file != "" {
		c.ACLFile = *file
	}
	return p.explain(&c, &gateway.Client{ID: backend.ClientID(*client), Principal: *user}, access)
}

// explain answers one question.
func (p process) explain(c *config, client *gateway.Client, access gateway.Access) int {
	a := &authentication{log: slog.New(slog.DiscardHandler)}
	if errs := c.openPermissions(a); len(errs) > 0 {
		return p.fail(flatten(errors.Join(errs...))...)
	}
	allowed, why := true, "nothing is configured that says who may do what"
	switch {
	case access.Action == gateway.Publish && strings.HasPrefix(access.Topic, "$") && !(c.DollarPublish && !strings.HasPrefix(access.Topic, "$SYS")):
		allowed, why = false, "clients do not publish to topics that begin with $ (MQTT_DOLLAR_PUBLISH; $SYS never)"
	case a.permissions != nil:
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		allowed, why = a.permissions.Explain(ctx, client, access)
	}
	if !allowed {
		fmt.Fprintf(p.stdout, "denied: %s\n", why)
		return exitFailed
	}
	fmt.Fprintf(p.stdout, "allowed: %s\n", why)
	return exitOK
}
