#!/bin/sh
# Nothing starts services here when a package is installed: there is no service manager.
exit 101
