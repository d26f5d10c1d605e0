package stage

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// BaseImage is the name of the public image that "oriel image bootstrap" makes, BaseRef what the engine calls it.
const (
	BaseImage = "oriel-debian-12"
	BaseRef   = "oriel/base:oriel-debian-12"
)

// Engine is the container engine under a server, for looking behind its back.
type Engine struct{ *client.Client }

// OpenEngine connects to an engine.
func OpenEngine(host string) (*Engine, error) {
	c, err := client.New(client.WithHost(host))
	if err != nil {
		return nil, err
	}
	return &Engine{c}, nil
}

// Machines gives the containers of a server, running or not: those that share a directory of its data directory.
func (e *Engine) Machines(ctx context.Context, s *Server) (list []container.Summary, err error) {
	r, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "oriel.installation")})
	if err != nil {
		return nil, err
	}
	for _, c := range r.Items {
		for _, m := range c.Mounts {
			if strings.HasPrefix(m.Source, s.Data+"/") {
				list = append(list, c)
				break
			}
		}
	}
	return list, nil
}

// Machine gives the container of an image builder of a server.
func (e *Engine) Machine(ctx context.Context, s *Server, builder string) (container.InspectResponse, error) {
	list, err := e.Machines(ctx, s)
	if err != nil {
		return container.InspectResponse{}, err
	}
	for _, c := range list {
		if strings.HasSuffix(c.Labels["oriel.resource"], ":image-builder/"+builder) {
			r, err := e.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
			return r.Container, err
		}
	}
	return container.InspectResponse{}, fmt.Errorf("the image builder %s has no machine", builder)
}

// Instance gives the container of an instance of a fleet, by the ID that DescribeSessions shows.
func (e *Engine) Instance(ctx context.Context, s *Server, id string) (container.InspectResponse, error) {
	list, err := e.Machines(ctx, s)
	if err != nil {
		return container.InspectResponse{}, err
	}
	for _, c := range list {
		if c.Labels["oriel.id"] == id {
			r, err := e.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
			return r.Container, err
		}
	}
	return container.InspectResponse{}, fmt.Errorf("the instance %s has no machine", id)
}

// Exec runs a shell command in a container as user, "" for root, and gives its output and exit code.
func (e *Engine) Exec(ctx context.Context, id, user, command string) (output string, code int, err error) {
	x, err := e.ExecCreate(ctx, id, client.ExecCreateOptions{User: user, Cmd: []string{"/bin/sh", "-c", command}, TTY: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", 0, err
	}
	c, err := e.ExecAttach(ctx, x.ID, client.ExecAttachOptions{TTY: true})
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	out, err := io.ReadAll(c.Reader)
	if err != nil {
		return "", 0, err
	}
	r, err := e.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
	return strings.ReplaceAll(string(out), "\r\n", "\n"), r.ExitCode, err
}

// Log gives the last lines that a container's processes have written.
func (e *Engine) Log(ctx context.Context, id string, lines int) (string, error) {
	r, err := e.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return "", err
	}
	defer r.Close()
	var text strings.Builder
	_, err = stdcopy.StdCopy(&text, &text, io.LimitReader(r, 1<<20))
	return text.String(), err
}

// Remains names what the engine has of an installation: containers, images, networks.
func (e *Engine) Remains(ctx context.Context, installation string) (list []string, err error) {
	of := client.Filters{}.Add("label", "oriel.installation="+installation)
	containers, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: of})
	if err != nil {
		return nil, err
	}
	for _, c := range containers.Items {
		list = append(list, "container "+strings.Join(c.Names, " ")+" "+string(c.State))
	}
	images, err := e.ImageList(ctx, client.ImageListOptions{All: true, Filters: of})
	if err != nil {
		return nil, err
	}
	for _, i := range images.Items {
		// A captured image carries its label on into what is captured of it, and the engine lists the layers between.
		list = append(list, "image "+strings.Join(append(i.RepoTags, i.ID), " "))
	}
	networks, err := e.NetworkList(ctx, client.NetworkListOptions{Filters: of})
	if err != nil {
		return nil, err
	}
	for _, n := range networks.Items {
		list = append(list, "network "+n.Name)
	}
	return list, nil
}
