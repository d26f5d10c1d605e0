// Command oriel-agent is the first process of every instance, and under other
// names its sudo, reboot and Image Assistant. See package agent.
package main

import (
	"os"

	"github.com/oriel-project/oriel/internal/agent"
)

func main() { os.Exit(agent.Main(os.Args)) }
