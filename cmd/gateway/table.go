package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

func printTable(p process) int {
	writeTable(p.stdout, variables(reflect.TypeFor[config]()))
	return exitOK
}

// writeTable writes the variables as Markdown.
func writeTable(w io.Writer, all []variable) {
	cell := strings.NewReplacer("|", `\|`, "*", `\*`).Replace
	fmt.Fprint(w, "| Variable | Default | Allowed | Meaning |\n| --- | --- | --- | --- |\n")
	for _, v := range all {
		name, def := "`"+v.Name+"`", ""
		if v.Default != "" {
			def = "`" + v.Default + "`"
		}
		if v.Secret {
			name += ", `" + v.Name + "_FILE`"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", name, def, cell(v.Allowed()), cell(v.Doc))
	}
}
