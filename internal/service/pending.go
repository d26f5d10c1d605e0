package service

import (
	"context"
	"reflect"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
)

// pending has the operations that Oriel does not perform yet. Whoever gives one to Service removes it here and from the
// list in docs/aws-divergences.md.
type pending struct{}

// Pending names the operations that Oriel does not perform yet, in alphabetical order.
func Pending() []string {
	var names []string
	for m := range reflect.TypeFor[pending]().Methods() {
		names = append(names, m.Name)
	}
	return names
}

func pendingOperation(name string) error {
	return appstream.Errorf(appstream.NotImplemented,
		"Oriel does not perform %s yet. docs/aws-divergences.md lists the operations that it performs.", name)
}

func (pending) AssociateAppBlockBuilderAppBlock(context.Context, *aws.AssociateAppBlockBuilderAppBlockInput) (*aws.AssociateAppBlockBuilderAppBlockOutput, error) {
	return nil, pendingOperation("AssociateAppBlockBuilderAppBlock")
}

func (pending) CreateAppBlockBuilder(context.Context, *aws.CreateAppBlockBuilderInput) (*aws.CreateAppBlockBuilderOutput, error) {
	return nil, pendingOperation("CreateAppBlockBuilder")
}

func (pending) CreateAppBlockBuilderStreamingURL(context.Context, *aws.CreateAppBlockBuilderStreamingURLInput) (*aws.CreateAppBlockBuilderStreamingURLOutput, error) {
	return nil, pendingOperation("CreateAppBlockBuilderStreamingURL")
}

func (pending) DeleteAppBlockBuilder(context.Context, *aws.DeleteAppBlockBuilderInput) (*aws.DeleteAppBlockBuilderOutput, error) {
	return nil, pendingOperation("DeleteAppBlockBuilder")
}

func (pending) DescribeAppBlockBuilderAppBlockAssociations(context.Context, *aws.DescribeAppBlockBuilderAppBlockAssociationsInput) (*aws.DescribeAppBlockBuilderAppBlockAssociationsOutput, error) {
	return nil, pendingOperation("DescribeAppBlockBuilderAppBlockAssociations")
}

func (pending) DescribeAppBlockBuilders(context.Context, *aws.DescribeAppBlockBuildersInput) (*aws.DescribeAppBlockBuildersOutput, error) {
	return nil, pendingOperation("DescribeAppBlockBuilders")
}

func (pending) DisassociateAppBlockBuilderAppBlock(context.Context, *aws.DisassociateAppBlockBuilderAppBlockInput) (*aws.DisassociateAppBlockBuilderAppBlockOutput, error) {
	return nil, pendingOperation("DisassociateAppBlockBuilderAppBlock")
}

func (pending) StartAppBlockBuilder(context.Context, *aws.StartAppBlockBuilderInput) (*aws.StartAppBlockBuilderOutput, error) {
	return nil, pendingOperation("StartAppBlockBuilder")
}

func (pending) StopAppBlockBuilder(context.Context, *aws.StopAppBlockBuilderInput) (*aws.StopAppBlockBuilderOutput, error) {
	return nil, pendingOperation("StopAppBlockBuilder")
}

func (pending) UpdateAppBlockBuilder(context.Context, *aws.UpdateAppBlockBuilderInput) (*aws.UpdateAppBlockBuilderOutput, error) {
	return nil, pendingOperation("UpdateAppBlockBuilder")
}
