package agent

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/sudo"
)

// maxSudos bounds the commands that run as root at the same time.
const maxSudos = 64

// listenSudo opens the socket that sudo connects to.
func (a *agent) listenSudo() error {
	l, err := listen(a.paths.sudo, 0o666)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				a.log.Error("socket", "address", l.Addr().String(), "error", err)
				return
			}
			go a.acceptSudo(c.(*net.UnixConn))
		}
	}()
	return nil
}

// acceptSudo hands the caller to a runner, if he may be root. Nothing that a
// caller says is read by process 1.
func (a *agent) acceptSudo(c *net.UnixConn) {
	defer c.Close()
	peer, err := peerCred(c)
	switch {
	case err != nil:
		sudo.Refuse(c, "the caller is not known")
		return
	case !a.config.Role.Builds():
		sudo.Refuse(c, "this machine belongs to a fleet, where nobody can become root; install software in an image builder")
		return
	case peer.Uid != 0 && peer.Uid != desktopUID && int(peer.Uid) != os.Geteuid():
		sudo.Refuse(c, "only the administrator of the image builder may run commands as root")
		return
	}
	if a.sudos.Add(1) > maxSudos {
		a.sudos.Add(-1)
		sudo.Refuse(c, "too many commands run as root at the same time; end one")
		return
	}
	defer a.sudos.Add(-1)
	if err := a.runSudo(c); err != nil {
		a.log.Error("start the sudo runner", "error", err)
		sudo.Refuse(c, "the command could not be started")
	}
}

// runSudo starts a runner for the client c and waits for it.
func (a *agent) runSudo(c *net.UnixConn) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	conn, err := c.File()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		conn.Close()
		return err
	}
	runner, err := a.procs.start(command{
		path: self, argv: []string{sudo.RunnerName}, dir: "/",
		env:   os.Environ(),
		files: []*os.File{null, null, os.Stderr, conn},
	})
	null.Close()
	conn.Close()
	if err != nil {
		return err
	}
	// The connection is the runner's alone now: it must be seen to end when
	// the runner does.
	c.Close()
	<-runner.done
	if runner.status.Signaled() && runner.status.Signal() != unix.SIGTERM {
		a.log.Warn("sudo runner", "end", runner.ended())
	}
	return nil
}
