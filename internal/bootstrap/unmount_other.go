//go:build !linux

package bootstrap

import "errors"

func unmount(string) error { return errors.ErrUnsupported }
