// Command statesgen writes docs/states.md to its standard output, or to the file that it is given.
package main

import (
	"log"
	"os"

	"github.com/oriel-project/oriel/internal/rules"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("statesgen: ")
	text, out := []byte(rules.States()), os.Stdout
	if len(os.Args) > 1 {
		if err := os.WriteFile(os.Args[1], text, 0o644); err != nil {
			log.Fatal(err)
		}
		return
	}
	if _, err := out.Write(text); err != nil {
		log.Fatal(err)
	}
}
