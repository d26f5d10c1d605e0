package agent

import (
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// TestSessionRights: what the agent of an instance for several people could do
// at its start, no program of a session can, neither by a namespace of its own.
func TestSessionRights(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 2)
	i.ready()
	// A script is the agent's descendant, as the desktop is; what docker exec
	// starts is not.
	i.do("exec", i.name, "sh", "-c", `mkdir -p /opt/appstream/SessionScripts && cd /opt/appstream/SessionScripts &&
		printf '{"SessionStart":{"executables":[{"context":"user","filename":"%s/try"},{"context":"system","filename":"%s/try"}]}}' "$PWD" "$PWD" >config.json &&
		cat >try <<'END' && chmod 755 try
#!/bin/sh
exec >/tmp/tried-$(id -u)
for kind in U m u i n p C; do unshare -r$kind true 2>/dev/null && echo unshare $kind; done
unshare -m true 2>/dev/null && echo unshare
nsenter -t $$ -m true 2>/dev/null && echo setns
mount -t tmpfs none /mnt 2>/dev/null && echo mount
mount -o remount,hidepid=0 /proc 2>/dev/null && echo remount
perl -e 'exit(syscall(56, 0x10000000 | 17, 0, 0, 0, 0) == -1)' 2>/dev/null && echo clone
perl -e 'exit(syscall(435, 0, 0) != -1 || $! != 38)' 2>/dev/null || echo clone3
perl -e 'exit(syscall(321, 0, 0, 0) != -1 || $! != 1)' 2>/dev/null || echo bpf
perl -e 'exit(!defined shmget(0, 4096, 01777))' 2>/dev/null && echo shared memory for others
perl -e 'exit(!defined shmget(0, 4096, 01700))' 2>/dev/null || echo no shared memory at all
perl -e 'exit(syscall(0x40000000 | 272, 0x10000000) == -1)' 2>/dev/null && echo x32
:
END
`)
	p := i.begin(agentapi.Session{ID: "anna", UserID: "anna", Stack: "s", AccessMode: "custom"})
	for _, uid := range []string{p.uid, "0"} {
		if out := i.do("exec", i.name, "cat", "/tmp/tried-"+uid); out != "" {
			t.Errorf("user %s can %s", uid, strings.ReplaceAll(out, "\n", ", "))
		}
	}
	if s, err := p.WaitReady(t.Context(), 0); err != nil || len(s.Scripts) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
