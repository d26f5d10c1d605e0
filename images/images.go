// Package images carries the recipes of Oriel's base images. A recipe is a directory:
//
//	image.json     what the image is called, and its OCI settings
//	packages       the Debian packages, one a line
//	dpkg-excludes  files of these packages that the image does without
//	files/         a tree laid over the finished system; a file that begins with #! becomes executable
//	setup          a script that runs last, as root, inside the system
//	Dockerfile     the same steps for those who build from a registry
//
// Package bootstrap turns one into an image.
package images

import (
	"embed"
	"io/fs"
)

//go:generate go run wallpaper.go debian-12/files/usr/share/backgrounds/oriel.png debian-12/files/usr/share/backgrounds/oriel-plain.png

//go:embed all:debian-12
var recipes embed.FS

// Debian12 returns the recipe of the Debian 12 desktop.
func Debian12() fs.FS {
	sub, err := fs.Sub(recipes, "debian-12")
	if err != nil {
		panic(err) // the name above is valid
	}
	return sub
}
