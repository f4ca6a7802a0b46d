/* One line to stderr, with the time. Only starts, stops and errors are logged: never a request, never a secret. */
#ifndef OFFERING_LOG_H
#define OFFERING_LOG_H

void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
