// Command agent stands in for oriel-agent in tests of the provider. Without arguments it is process 1 of a machine: it
// listens on the agent's socket, says "hello NAME" to who connects, and ends on SIGTERM, or with a code that it is sent.
// As "agent reach NETWORK ADDRESS" it tells whether that can be connected to.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "reach" {
		conn, err := net.DialTimeout(os.Args[2], os.Args[3], 1500*time.Millisecond)
		if err != nil {
			fmt.Println("unreachable:", err)
			return
		}
		conn.Close()
		fmt.Println("reached")
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "listen" {
		l, err := net.Listen("tcp", ":7777")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	var config struct{ ResourceName string }
	text, err := os.ReadFile("/run/oriel/config.json")
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("unix", "/run/oriel/agent.sock")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "hello %s\n", config.ResourceName)
			line, _ := bufio.NewReader(c).ReadString('\n')
			if code, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				os.Exit(code)
			}
			c.Close()
		}
	}()
	<-stop
}
