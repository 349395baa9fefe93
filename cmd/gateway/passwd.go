package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

const passwdHelp = `Usage: gateway passwd [flags] FILE USER   set the password of a user, new or known
       gateway passwd --delete FILE USER  remove a user
       gateway passwd --list FILE         print the users, and how their passwords are hashed
       gateway passwd --batch FILE        set those of the lines user:password on standard input
       gateway passwd --print             print the hash of a password, and change nothing

The password is asked for, or it is the first line of standard input if that is
no terminal. A running gateway with AUTH_PASSWORD_FILE=FILE notices the change.

  --redis      users in Redis, at REDIS_URL, instead of FILE (AUTH_REDIS_USERS)
  --create     FILE does not exist yet
  --hash HASH  argon2id (default), bcrypt, pbkdf2 (which Mosquitto reads), or
               scram-sha-256 (for clients of MQTT 5 with enhanced authentication)
`

// userTable is what passwd edits.
type userTable interface {
	set(ctx context.Context, user, hash string) error
	// remove reports whether there was such a user.
	remove(ctx context.Context, user string) (bool, error)
	list(ctx context.Context, each func(user string, h *password.Hash)) error
	// save makes the changes, all or none where it can.
	save(ctx context.Context) error
}

// passwdFlags are the command line of passwd.
type passwdFlags struct {
	create, remove, list, batch, print, redis bool
	scheme                                    password.Scheme
	args                                      []string
}

func passwd(p process) int {
	f, err := passwdArguments(p.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, passwdHelp)
		return exitOK
	case err != nil:
		fmt.Fprintf(p.stderr, "passwd: %v; see 'gateway passwd --help'\n", err)
		return exitUsage
	case f.print:
		return p.printHash(f.scheme)
	case f.redis:
		return p.editRedis(f)
	}
	table, err := openUserFile(f.args[0], f.create)
	if err != nil {
		return p.fail(err)
	}
	return p.edit(context.Background(), table, f, f.args[1:])
}

// editRedis edits the users in Redis.
func (p process) editRedis(f passwdFlags) int {
	var c config
	if _, errs := load(p.environ, &c); len(errs) > 0 {
		return p.fail(errs...)
	}
	users, err := c.openUsers()
	if err != nil {
		return p.fail(err)
	}
	defer users.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // somebody may have to type
	defer cancel()
	return p.edit(ctx, &redisUsers{users, map[string]string{}}, f, f.args)
}

// passwdArguments reads the command line: flags may be anywhere.
func passwdArguments(args []string) (passwdFlags, error) {
	var f passwdFlags
	flags := flag.NewFlagSet("passwd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	scheme := string(password.Schemes[0])
	flags.BoolVar(&f.create, "create", false, "")
	flags.BoolVar(&f.create, "c", false, "")
	flags.BoolVar(&f.remove, "delete", false, "")
	flags.BoolVar(&f.remove, "D", false, "")
	flags.BoolVar(&f.list, "list", false, "")
	flags.BoolVar(&f.batch, "batch", false, "")
	flags.BoolVar(&f.print, "print", false, "")
	flags.BoolVar(&f.redis, "redis", false, "")
	flags.StringVar(&scheme, "hash", scheme, "")
	flags.StringVar(&scheme, "H", scheme, "")
	args, err := parseAnywhere(flags, args)
	if err != nil {
		return f, err
	}
	f.args, f.scheme = args, password.Scheme(scheme)
	if !slices.Contains(password.Schemes, f.scheme) {
		return f, fmt.Errorf("--hash %q; allowed is one of %v", f.scheme, password.Schemes)
	}
	actions := 0
	for _, on := range []bool{f.remove, f.list, f.batch, f.print} {
		if on {
			actions++
		}
	}
	want := 1 // FILE
	switch {
	case actions > 1:
		return f, errors.New("one of --delete, --list, --batch and --print at a time")
	case f.print:
		want = 0
	case !f.list && !f.batch:
		want = 2 // and USER
	}
	if f.redis && !f.print {
		want-- // no FILE
	}
	switch {
	case f.redis && f.create:
		return f, errors.New("--create is for a file")
	case len(args) < want:
		return f, fmt.Errorf("%d arguments, %d needed", len(args), want)
	case len(args) > want: // it may be a password, and is not repeated
		return f, fmt.Errorf("%d arguments, %d allowed; passwords are not given as an argument, where others can read them", len(args), want)
	}
	return f, nil
}

// parseAnywhere parses flags before, between and behind the arguments, which it
// returns. What is behind "--" is no flag.
func parseAnywhere(flags *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		before := len(args)
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		left := flags.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if n := before - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// edit carries out one action on a table of users.
func (p process) edit(ctx context.Context, table userTable, f passwdFlags, args []string) int {
	switch {
	case f.list:
		if err := table.list(ctx, func(user string, h *password.Hash) { fmt.Fprintf(p.stdout, "%s\t%s\n", user, h.Scheme()) }); err != nil {
			return p.fail(err)
		}
		return exitOK
	case f.batch:
		if err := p.batch(ctx, table, f.scheme); err != nil {
			return p.fail(err)
		}
	case f.remove:
		was, err := table.remove(ctx, args[0])
		if err == nil && !was {
			err = fmt.Errorf("there is no user %q", args[0])
		}
		if err != nil {
			return p.fail(err)
		}
	default:
		if err := password.ValidUser(args[0]); err != nil { // before the password is asked for
			return p.fail(err)
		}
		hash, err := p.newHash(f.scheme)
		if err == nil {
			err = table.set(ctx, args[0], hash)
		}
		if err != nil {
			return p.fail(err)
		}
	}
	if err := table.save(ctx); err != nil {
		return p.fail(err)
	}
	return exitOK
}

// batch sets the passwords of lines user:password. Nothing is changed if one of
// them is wrong.
func (p process) batch(ctx context.Context, table userTable, s password.Scheme) error {
	lines := bufio.NewScanner(p.stdin)
	for n := 1; lines.Scan(); n++ {
		if lines.Text() == "" {
			continue
		}
		user, pass, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return fmt.Errorf("line %d: not user:password", n)
		}
		hash, err := password.Make(s, []byte(pass))
		if err == nil {
			err = table.set(ctx, user, hash)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

func (p process) printHash(s password.Scheme) int {
	hash, err := p.newHash(s)
	if err != nil {
		return p.fail(err)
	}
	fmt.Fprintln(p.stdout, hash)
	return exitOK
}

// newHash reads a password, twice where it is not seen, and hashes it.
func (p process) newHash(s password.Scheme) (string, error) {
	pass, err := p.readPassword()
	if err != nil {
		return "", err
	}
	return password.Make(s, pass)
}

func (p process) readPassword() ([]byte, error) {
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		ask := func(prompt string) ([]byte, error) {
			fmt.Fprint(p.stderr, prompt)
			defer fmt.Fprintln(p.stderr)
			return term.ReadPassword(int(f.Fd()))
		}
		pass, err := ask("Password: ")
		if err != nil {
			return nil, err
		}
		again, err := ask("Once more: ")
		if err != nil {
			return nil, err
		}
		if string(again) != string(pass) {
			return nil, errors.New("the two passwords are not the same")
		}
		return pass, nil
	}
	line, err := bufio.NewReader(p.stdin).ReadString('\n')
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return nil, errors.New("no password on standard input")
	}
	return []byte(strings.TrimRight(line, "\r\n")), nil
}
