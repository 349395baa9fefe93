// Command gateway is Sluice as a program: it reads the environment, wires the
// gateway to its store and backend, and serves until it is told to stop.
// README.md lists the variables; so does `gateway env`.
package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/sluice-mqtt/sluice/backend/redis"
)

// The exit codes.
const (
	exitOK = iota
	// exitFailed: the configuration is wrong, or the work failed.
	exitFailed
	// exitUsage: there is no such command or flag.
	exitUsage
)

// version is set by the linker (-X main.version=…).
var version string

// versionText is the version of a release, or what the toolchain knows.
func versionText() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "dev"
}

// process is what a command has of the process that it runs in.
type process struct {
	args           []string // after the command
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	// signals asks for the end; a second one for the end at once.
	signals <-chan os.Signal
}

type command struct {
	name, doc string
	run       func(process) int
	// args: it reads its own arguments, help included.
	args bool
}

func commands() []command {
	return []command{
		{"serve", "serve MQTT until SIGTERM or SIGINT; a second one ends at once (default)", serve, false},
		{"check-config", "print the configuration in force and where each value is from; exit 1 if it is wrong", checkConfig, false},
		{"env", "print every environment variable as a Markdown table", printTable, false},
		{"passwd", "make and change a file of users and passwords; see 'gateway passwd --help'", passwd, true},
		{"acl", "say who may do what, and change the rules in Redis; see 'gateway acl --help'", aclCommand, true},
		{"healthcheck", "ask /readyz of HTTP_LISTEN, or of --url URL; exit 1 if not ready", healthcheck, true},
		{"version", "print the version", printVersion, false},
		{"help", "print this", help, false},
	}
}

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	redis.SetClientLogger(slog.New(slog.DiscardHandler)) // serve has its own
	os.Exit(run(process{os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr, signals}))
}

func run(p process) int {
	name := "serve"
	if len(p.args) > 0 {
		name, p.args = p.args[0], p.args[1:]
	}
	own := slices.ContainsFunc(commands(), func(c command) bool { return c.name == name && c.args })
	for i, a := range append([]string{name}, p.args...) {
		switch a {
		case "-h", "-help", "--help":
			if i == 0 || !own || name == "healthcheck" {
				return help(p)
			}
		}
	}
	if name == "-version" || name == "--version" {
		name = "version"
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if len(p.args) > 0 && !c.args {
			return p.usage("%s takes no arguments, got %q", name, p.args[0])
		}
		return c.run(p)
	}
	return p.usage("no command %q", name)
}

// usage says in one line what is wrong with the command line.
func (p process) usage(format string, args ...any) int {
	fmt.Fprintf(p.stderr, format+"; see 'gateway help'\n", args...)
	return exitUsage
}

// fail prints each error on a line of its own.
func (p process) fail(errs ...error) int {
	for _, err := range errs {
		fmt.Fprintln(p.stderr, err)
	}
	return exitFailed
}

func printVersion(p process) int {
	fmt.Fprintf(p.stdout, "sluice %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}

func help(p process) int {
	fmt.Fprint(p.stdout, "Sluice, an MQTT gateway. Usage: gateway [command]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(p.stdout, "  %-13s %s\n", c.name, c.doc)
	}
	fmt.Fprint(p.stdout, "\nIt is configured by environment variables, which 'gateway env' lists.\n")
	return exitOK
}
