package appstream

import (
	"slices"
	"strings"
)

// InstanceType is the size of a machine.
type InstanceType struct {
	Name     string // for example stream.standard.medium
	Family   string // as in SupportedInstanceFamilies, for example General Purpose
	VCPU     float64
	MemoryMB int
}

// The instance types that AppStream documents: name without "stream.", vCPUs, memory in GiB.
var documentedTypes = []struct {
	name   string
	vcpu   float64
	memory float64
}{
	{"standard.small", 1, 2}, {"standard.medium", 2, 4}, {"standard.large", 2, 8}, {"standard.xlarge", 4, 16}, {"standard.2xlarge", 8, 32},
	{"compute.large", 2, 3.75}, {"compute.xlarge", 4, 7.5}, {"compute.2xlarge", 8, 15}, {"compute.4xlarge", 16, 30}, {"compute.8xlarge", 36, 60},
	{"memory.large", 2, 15.25}, {"memory.xlarge", 4, 30.5}, {"memory.2xlarge", 8, 61}, {"memory.4xlarge", 16, 122}, {"memory.8xlarge", 32, 244},
	{"memory.z1d.large", 2, 16}, {"memory.z1d.xlarge", 4, 32}, {"memory.z1d.2xlarge", 8, 64}, {"memory.z1d.3xlarge", 12, 96}, {"memory.z1d.6xlarge", 24, 192}, {"memory.z1d.12xlarge", 48, 384},
	{"graphics-design.large", 2, 7.5}, {"graphics-design.xlarge", 4, 15.25}, {"graphics-design.2xlarge", 8, 30.5}, {"graphics-design.4xlarge", 16, 61},
	{"graphics-desktop.2xlarge", 8, 15}, {"graphics-pro.4xlarge", 16, 122}, {"graphics-pro.8xlarge", 32, 244}, {"graphics-pro.16xlarge", 64, 488},
	{"graphics.g4dn.xlarge", 4, 16}, {"graphics.g4dn.2xlarge", 8, 32}, {"graphics.g4dn.4xlarge", 16, 64}, {"graphics.g4dn.8xlarge", 32, 128}, {"graphics.g4dn.12xlarge", 48, 192}, {"graphics.g4dn.16xlarge", 64, 256},
	{"graphics.g5.xlarge", 4, 16}, {"graphics.g5.2xlarge", 8, 32}, {"graphics.g5.4xlarge", 16, 64}, {"graphics.g5.8xlarge", 32, 128}, {"graphics.g5.12xlarge", 48, 192}, {"graphics.g5.16xlarge", 64, 256}, {"graphics.g5.24xlarge", 96, 384},
	{"graphics.g6.xlarge", 4, 16}, {"graphics.g6.2xlarge", 8, 32}, {"graphics.g6.4xlarge", 16, 64}, {"graphics.g6.8xlarge", 32, 128}, {"graphics.g6.12xlarge", 48, 192}, {"graphics.g6.16xlarge", 64, 256}, {"graphics.g6.24xlarge", 96, 384},
	{"graphics.gr6.4xlarge", 16, 128}, {"graphics.gr6.8xlarge", 32, 256},
	{"graphics.g6f.large", 2, 8}, {"graphics.g6f.xlarge", 4, 16}, {"graphics.g6f.2xlarge", 8, 32}, {"graphics.g6f.4xlarge", 16, 64}, {"graphics.gr6f.4xlarge", 16, 128},
}

// InstanceTypes gives the documented types by name. Callers may add their own to the map that they get.
func InstanceTypes() map[string]InstanceType {
	types := make(map[string]InstanceType, len(documentedTypes))
	for _, d := range documentedTypes {
		name := "stream." + d.name
		types[name] = InstanceType{Name: name, Family: InstanceFamily(name), VCPU: d.vcpu, MemoryMB: int(d.memory * 1024)}
	}
	return types
}

// CommonFamilies are those of machines without anything that not every host has.
func CommonFamilies() []string {
	return []string{"General Purpose", "Compute Optimized", "Memory Optimized"}
}

// SmallestType gives the smallest documented type that is in sizes and of one of the families; without families, of all.
func SmallestType(sizes map[string]InstanceType, families []string) (least InstanceType, found bool) {
	for _, d := range documentedTypes {
		size, ok := sizes["stream."+d.name]
		if ok && (len(families) == 0 || slices.Contains(families, size.Family)) && (!found || size.MemoryMB < least.MemoryMB) {
			least, found = size, true
		}
	}
	return least, found
}

// InstanceFamily gives the family name that an image's SupportedInstanceFamilies uses for an instance type.
func InstanceFamily(name string) string {
	_, kind, _ := strings.Cut(name, ".")
	switch {
	case strings.HasPrefix(kind, "compute."):
		return "Compute Optimized"
	case strings.HasPrefix(kind, "memory."):
		return "Memory Optimized"
	case strings.HasPrefix(kind, "graphics.g4dn."):
		return "Graphics G4"
	case strings.HasPrefix(kind, "graphics.g5."):
		return "Graphics G5"
	case strings.HasPrefix(kind, "graphics.g"):
		return "Graphics G6"
	case strings.HasPrefix(kind, "graphics-design."):
		return "Graphics Design"
	case strings.HasPrefix(kind, "graphics-desktop."):
		return "Graphics Desktop"
	case strings.HasPrefix(kind, "graphics-pro."):
		return "Graphics Pro"
	}
	return "General Purpose"
}
