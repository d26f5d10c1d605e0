// Package porttest finds TCP ports for programs that tests start, and that must be told where to listen before they do.
//
// A listener on port 0 that is closed again gives no such port: the system gives the ports of its range to every connection that is made, and
// by the time the program listens it may have given this one away. What is found here is below that range.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports that are looked at. Systems give out ports from 32768, and some from 49152.
const (
	lowest = 15000
	above  = 32768
)

var (
	mu sync.Mutex
	// taken are the ports that this process has found, each with a name that no two processes can hold, until it ends.
	taken []net.Listener
)

// Address gives an address on this machine where a program can listen, by which nobody else has been told to.
func Address() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	for range 1000 {
		port := lowest + rand.IntN(above-lowest)
		name, err := net.Listen("unix", fmt.Sprintf("@oriel-test-port-%d", port))
		if err != nil {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		free, err := net.Listen("tcp", address)
		if err != nil {
			name.Close()
			continue
		}
		taken = append(taken, name)
		return address, free.Close()
	}
	return "", errors.New("no port of this machine is free")
}
