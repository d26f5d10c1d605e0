package language

import (
	"fmt"
	"html/template"
)

// Funcs gives what a template of pages asks for in one language:
//
//	language          the language's code
//	languages         All
//	t KEY ARG…        a text
//	tag NAME KEY ARG… a text in which each argument stands in an element of that name
func (w Words) Funcs(code string) template.FuncMap {
	text := func(key string, args ...any) string { return w.Text(code, key, args...) }
	return template.FuncMap{
		"language":  func() string { return code },
		"languages": func() []Language { return All },
		"t":         text,
		"tag": func(name, key string, args ...any) template.HTML {
			for n, arg := range args {
				args[n] = "<" + name + ">" + template.HTMLEscapeString(fmt.Sprint(arg)) + "</" + name + ">"
			}
			return template.HTML(fmt.Sprintf(template.HTMLEscapeString(w.Text(code, key)), args...))
		},
	}
}
