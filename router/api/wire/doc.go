// Package wire is what every dialect of HTTP needs and none owns: one exchange of a request and its answer, reading bodies
// within limits and deadlines, once for each request, the members of a JSON object in their order, appending JSON, and the
// value that a dialect is to the front door. It has no dialect's words in it.
package wire
