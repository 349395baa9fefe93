package main

import (
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"

	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
)

// loadConfig reads the environment and checks what can be checked without
// opening anything. The errors are all that were found, one a variable.
func loadConfig(environ []string) (config, []setting, []error) {
	var c config
	settings, errs := load(environ, &c)
	if len(errs) == 0 {
		errs = append(errs, flatten(c.checkDrivers())...)
		errs = append(errs, flatten(c.checkAnonymous())...)
		errs = append(errs, flatten(c.checkExtras())...)
	}
	return c, settings, errs
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var all []error
		for _, err := range e.Unwrap() {
			all = append(all, flatten(err)...)
		}
		return all
	}
	return []error{err}
}

// named turns the errors of the gateway about its options into errors about
// the variables that set them.
func named(err error, settings []setting) []error {
	all := flatten(err)
	for i, err := range all {
		var c *gateway.ConfigError
		if !errors.As(err, &c) {
			continue
		}
		s, ok := byOption(settings, c.Field)
		switch {
		case !ok:
		case c.Cause != nil:
			all[i] = &problem{s.Name, s.Value, c.Cause.Error()}
		default:
			all[i] = &problem{s.Name, s.Value, "allowed is " + c.Allowed}
		}
	}
	return all
}

// try checks the options of the gateway and the files that they name, and asks
// no server.
func (c *config) try(settings []setting) []error {
	o := c.options()
	a, errs := c.openAuth(slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return flatten(errors.Join(errs...))
	}
	a.apply(&o)
	return c.checkOptions(o, settings)
}

// checkOptions finds what is wrong with the options of a gateway, drivers apart,
// and with the files that they name.
func (c *config) checkOptions(o gateway.Options, settings []setting) []error {
	o.Backend, o.Store = memory.NewBus().Gateway(), memory.NewStore(c.storeOptions())
	_, err := gateway.New(o)
	return named(err, settings)
}

func checkConfig(p process) int {
	c, settings, errs := loadConfig(p.environ)
	if len(errs) == 0 {
		errs = c.try(settings)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Value, s.Source)
	}
	w.Flush()
	for _, u := range findUnknown(p.environ, names(settings)) {
		fmt.Fprintln(p.stderr, "warning:", u)
	}
	if len(errs) > 0 {
		return p.fail(errs...)
	}
	return exitOK
}
