package porttest

import (
	"net"
	"testing"
)

// Each has an address to himself, where he can listen at once.
func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Errorf("%s is given to two", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
