package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is the server's certificate, read again when its files change. While new files are not good, as between the writing of
// one and of the other, the last good ones serve.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   [2]time.Time // when the files were changed that were last tried
	looked  time.Time
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s and its key %s: %w", certFile, keyFile, err)
	}
	c.current, c.stamp, c.looked = &pair, c.changed(), time.Now()
	return c, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > lookEvery {
		c.looked = time.Now()
		if now := c.changed(); now != c.stamp {
			c.stamp = now
			c.load()
		}
	}
	return c.current, nil
}

// changed gives the times of the files' last changes.
func (c *certificate) changed() (stamp [2]time.Time) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	return stamp
}

// reload reads the files whether they have changed or not.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = c.changed()
	c.load()
}

func (c *certificate) load() {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("the new certificate is not good; the last one serves", "file", c.certFile, "err", err)
		return
	}
	c.current = &pair
	c.log.Info("read the certificate", "file", c.certFile, "until", pair.Leaf.NotAfter)
}
