// Package mailtest gives tests a mail server of their own: aiosmtpd, Debian's python3-aiosmtpd.
package mailtest

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// server listens at a port that is free, and says which.
const server = `
import asyncio, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, LoginPassword

folder, mode, cert, key = sys.argv[1:5]
def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=isinstance(data, LoginPassword) and data.login == b"oriel" and data.password == b"let me in")
more = {}
if mode != "none":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    more = dict(authenticator=authenticate, auth_required=True)
    if mode == "starttls":
        more.update(tls_context=context, require_starttls=True)
    else:
        more.update(ssl_context=context, auth_require_tls=False)
controller = Controller(Mailbox(folder), hostname="127.0.0.1", port=0, **more)
controller.start = lambda: None
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(controller._factory_invoker, "127.0.0.1", 0, ssl=more.get("ssl_context"))
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
controller.loop = asyncio.new_event_loop()
asyncio.set_event_loop(controller.loop)
controller.loop.run_until_complete(main())
`

// Start starts a mail server and gives its port and the folder of what it gets, a maildir. mode is how connections are protected, as in the settings: none, or
// starttls or tls with a certificate and its key, and then it insists on that, and on the user oriel with the password "let me in".
func Start(t *testing.T, mode, certFile, keyFile string) (port int, folder string) {
	t.Helper()
	const python = "/usr/bin/python3" // the distribution's own, whatever else is installed
	if err := exec.Command(python, "-c", "import aiosmtpd").Run(); err != nil {
		t.Skip("there is no aiosmtpd: hack/setup test")
	}
	folder = filepath.Join(t.TempDir(), "box")
	cmd := exec.Command(python, "-c", server, folder, mode, certFile, keyFile)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
		t.Fatalf("the mail server does not start: %v", err)
	}
	return port, folder
}
