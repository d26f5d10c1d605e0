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
//	PUT  /v1/files?path=…&offset=…   a piece of a file for root, see PutFile; PutStatus
//	PUT    /v1/jobs/{id}                begins the Job of the body, if none of that ID is known; 204
//	GET    /v1/jobs/{id}[?wait=SECONDS] JobStatus; with wait, as soon as it has ended; 404 if there is none
//	DELETE /v1/jobs/{id}                ends it with all its processes, and forgets it; 204
//
// And for the sessions of a fleet's instance, which has no display of its own
// and refuses quiesce, resume, files and jobs:
//
//	GET    /v1/sessions                            {"sessions": [SessionStatus …]}
//	PUT    /v1/sessions/{id}                       begins the Session of the body, if it has not begun; 204
//	GET    /v1/sessions/{id}[?wait=SECONDS]        SessionStatus; with wait, as soon as Ready is true; 404 if there is none
//	DELETE /v1/sessions/{id}                       ends it, with its scripts and all that is left of it; 204 when that is so
//	GET    /v1/sessions/{id}/display               Upgrade: rfb, as above
//	PUT    /v1/sessions/{id}/timezone              {"timeZone": "Europe/Berlin"}, 204
//	POST   /v1/sessions/{id}/launch                {"application": NAME}, 204
//	GET    /v1/sessions/{id}/windows[?after=V&wait=SECONDS]  Windows; with after, when Version is another
//	POST   /v1/sessions/{id}/windows/{window}      {"action": "activate" | "close"}, 204
//	GET    /v1/sessions/{id}/sound                 the sound as it plays, see SoundRate; ends with the session
//	GET    /v1/sessions/{id}/folders/{path...}     Folder
//	PUT    /v1/sessions/{id}/folders/{path...}     makes a folder, if it is not there; 204
//	GET    /v1/sessions/{id}/files/{path...}       a file, with its Content-Length
//	PUT    /v1/sessions/{id}/files/{path...}       writes a file whole or not at all, 204; 507 when the disk is full
//	DELETE /v1/sessions/{id}/files/{path...}       removes a file or an empty folder, 204
//	GET    /v1/sessions/{id}/prints[?after=V&wait=SECONDS]   Prints
//	GET    /v1/sessions/{id}/prints/{print}        the PDF
//	DELETE /v1/sessions/{id}/prints/{print}        204
//
// A session that may not print answers 404 to the questions for prints, one
// whose image has no sound to that for sound.
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
