// Package agentapi is the contract between the server and the agent, the
// program that runs inside every instance as process 1.
//
// The protocol is HTTP/1.1 with JSON bodies over a unix socket in a directory
// that the host and the instance share (Dir):
//
//	GET  /v1/status[?wait=SECONDS]   Status; with wait, as soon as Ready is true
//	GET  /v1/display                 Upgrade: rfb → 101, then the raw RFB stream
//	GET  /v1/applications            {"applications": [Application …]}
//	GET  /v1/requests[?wait=SECONDS] the next Request, or 204
//	POST /v1/requests/{id}           the Answer to it, 204
//	POST /v1/quiesce                 end the desktop's programs, write out the disk, 204
//	POST /v1/resume                  start the desktop again, 204
//
// A refused call has a JSON body {"message": …}. Members that a side does not
// know are ignored, so that server and agent of different versions understand
// one another. An instance belongs to its user: what the agent says is input
// to be checked, never to be trusted.
//
// The package imports the standard library only, because both the server and
// the (small) agent link it.
package agentapi

// Where things are inside an instance. The server mounts them; the agent and
// the base image rely on them.
const (
	// Dir is the directory shared with the host. After the agent has started,
	// ordinary users of the instance cannot enter it.
	Dir = "/run/oriel"
	// ConfigName is the file in Dir with the Config, written before start.
	ConfigName = "config.json"
	// SocketName is the agent's socket in Dir, mode 0660.
	SocketName = "agent.sock"
	// Binary is where the agent's program is mounted, read-only. The image
	// links sudo, reboot, AppStreamImageAssistant and so on to it.
	Binary = "/opt/oriel/bin/oriel-agent"
)

// Exit codes of the agent, and with it of the instance. Any other code than
// these three means that the agent failed.
const (
	// ExitStopped follows a SIGTERM: the host asked the instance to stop.
	ExitStopped = 0
	// ExitReboot asks the engine to start the instance again.
	ExitReboot = 85
	// ExitPowerOff says that someone inside switched the instance off.
	ExitPowerOff = 86
)
