// Package e2e tests Oriel as its users meet it: the real program, AWS's own command line and SDKs, a real browser, real
// containers. It has tests only; package stage sets up what they act on, directory js has what runs in Node, directory
// python what runs in Python, and command bench measures.
//
// What the tests need, they take from the environment, and are skipped without it:
//
//	ORIEL_TEST_ENGINE   a container engine with the base image, for example unix:///run/docker.sock
//	ORIEL_TEST_BROWSER  1: Chromium, Node and npm are there
//	ORIEL_TEST_BIN      directory with oriel and oriel-agent; they are built when it is not set
//	ORIEL_SCREENSHOTS   directory to keep the browser's pictures in
//
// Tests about the API alone use the sim provider and always run. All leave nothing behind, in the engine or elsewhere.
package e2e
