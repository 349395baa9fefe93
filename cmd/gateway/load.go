package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// variable is an environment variable, as the tags of its field tell.
type variable struct {
	Name, Default, Doc string
	// Option is the field of gateway.Options that it sets, if any.
	Option string
	Secret bool

	field          reflect.StructField
	min, max       string
	oneof, allowed string
}

// setting is a variable with the value in force, which is masked if secret.
type setting struct {
	variable
	Value  string
	Source source
}

// source is where a value came from.
type source string

const (
	fromDefault     source = "default"
	fromEnvironment source = "env"
	fromFile        source = "file"
)

// problem is what is wrong with one variable, in one line.
type problem struct {
	Name, Value, Text string
}

func (p *problem) Error() string { return fmt.Sprintf("%s = %q: %s", p.Name, p.Value, p.Text) }

// variables lists those of a configuration struct.
func variables(of reflect.Type) []variable {
	var all []variable
	for i := range of.NumField() {
		f := of.Field(i)
		all = append(all, variable{
			Name:    f.Tag.Get("env"),
			Default: f.Tag.Get("envDefault"),
			Doc:     f.Tag.Get("doc"),
			Option:  f.Tag.Get("option"),
			Secret:  f.Tag.Get("secret") == "true",
			field:   f,
			min:     f.Tag.Get("min"),
			max:     f.Tag.Get("max"),
			oneof:   f.Tag.Get("oneof"),
			allowed: f.Tag.Get("allowed"),
		})
	}
	return all
}

// Allowed says which values the variable may have.
func (v variable) Allowed() string {
	switch {
	case v.allowed != "":
		return v.allowed
	case v.oneof != "":
		return strings.ReplaceAll(v.oneof, ",", ", ")
	case v.field.Type.Kind() == reflect.Bool:
		return "true, false"
	case v.max != "":
		return v.min + " to " + v.max
	}
	return v.min + " or more"
}

// masked stands for a secret.
const masked = "***"

// shown is a value of the variable as it may be printed.
func (v variable) shown(value string) string {
	if v.Secret && value != "" {
		return masked
	}
	return value
}

func (v variable) wrong(value string) *problem {
	return &problem{v.Name, v.shown(value), "allowed is " + v.Allowed()}
}

// load fills the struct that into points to from an environment of the form
// NAME=value. It returns the settings in the order of the fields, and one
// error a variable with everything that is wrong.
//
// Empty variables count as not set. A secret may be in a file instead, named
// by NAME_FILE; a line's end at the file's end does not belong to it.
func load(environ []string, into any) ([]setting, []error) {
	given, errs := map[string]string{}, []error(nil)
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			given[name] = value
		}
	}
	struct_ := reflect.ValueOf(into).Elem()
	var settings []setting
	texts := map[string]string{} // by name, for the parser
	for _, v := range variables(struct_.Type()) {
		s := setting{variable: v, Value: v.Default, Source: fromDefault}
		if value, ok := given[v.Name]; ok {
			s.Value, s.Source = value, fromEnvironment
		}
		if path, ok := given[v.Name+"_FILE"]; ok && v.Secret {
			content, err := os.ReadFile(path)
			if s.Source == fromEnvironment {
				errs = append(errs, &problem{v.Name + "_FILE", path, v.Name + " is set as well; allowed is one of the two"})
			} else if err != nil {
				errs = append(errs, &problem{v.Name + "_FILE", path, err.Error()})
			} else {
				s.Value, s.Source = strings.TrimRight(string(content), "\r\n"), fromFile
			}
		}
		if s.Source != fromDefault {
			texts[v.Name] = s.Value
		}
		settings = append(settings, s)
	}

	unparsed := map[string]bool{} // by field
	var all env.AggregateError
	if err := env.ParseWithOptions(into, env.Options{Environment: texts}); errors.As(err, &all) {
		for _, err := range all.Errors {
			var wrong env.ParseError
			if !errors.As(err, &wrong) {
				errs = append(errs, err)
				continue
			}
			unparsed[wrong.Name] = true
		}
	} else if err != nil {
		errs = append(errs, err)
	}
	for i, s := range settings {
		v := struct_.FieldByIndex(s.field.Index)
		if unparsed[s.field.Name] || !s.inBounds(v) {
			errs = append(errs, s.wrong(s.Value))
		}
		settings[i].Value = s.shown(s.Value)
	}
	return settings, errs
}

// inBounds checks a parsed value against min, max and oneof.
func (v variable) inBounds(value reflect.Value) bool {
	if v.oneof != "" {
		return slices.Contains(strings.Split(v.oneof, ","), fmt.Sprint(value.Interface()))
	}
	if v.min != "" && value.Int() < v.number(v.min) {
		return false
	}
	return v.max == "" || value.Int() <= v.number(v.max)
}

// number reads a bound as a value of the variable's type. The bounds are part
// of the program: one that can not be read is a fault in it.
func (v variable) number(bound string) int64 {
	var n int64
	var err error
	switch v.field.Type {
	case reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = time.ParseDuration(bound)
		n = int64(d)
	case reflect.TypeFor[size]():
		err = (*size)(&n).UnmarshalText([]byte(bound))
	case reflect.TypeFor[seconds]():
		err = (*seconds)(&n).UnmarshalText([]byte(bound))
	default:
		n, err = strconv.ParseInt(bound, 10, 64)
	}
	if err != nil {
		panic(fmt.Sprintf("%s: bound %q: %v", v.Name, bound, err))
	}
	return n
}

// byOption names the variable that sets a field of gateway.Options.
func byOption(settings []setting, option string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.Option == option && option != "" })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}

// names returns every name that means something: the variables and the twins
// of the secrets.
func names(settings []setting) map[string]bool {
	all := map[string]bool{}
	for _, s := range settings {
		all[s.Name] = true
		if s.Secret {
			all[s.Name+"_FILE"] = true
		}
	}
	return all
}

// sorted returns the keys in order.
func sorted(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }
