/* What the environment says: read once at start, checked, then never changed. */
#ifndef OFFERING_SETTINGS_H
#define OFFERING_SETTINGS_H

#include <stdbool.h>
#include <sys/socket.h>

enum tls_mode {
    TLS_PREFERRED, /* encrypted when the server offers it, certificate not checked */
    TLS_VERIFY,    /* encrypted, certificate checked, or no connection */
    TLS_OFF
};

struct settings {
    unsigned int port;               /* OFFERING_PORT */
    const char *bind_text;           /* OFFERING_BIND as given, for the log */
    struct sockaddr_storage address; /* OFFERING_BIND and OFFERING_PORT, IPv4 or IPv6 */
    const char *database_host;       /* DB_HOST */
    unsigned int database_port;      /* DB_PORT */
    const char *database_socket;     /* DB_SOCKET, or NULL: then TCP is used */
    const char *database_user;       /* DB_USER */
    const char *database_name;       /* DB_NAME */
    char *database_password;         /* the content of DB_PASSWORD_FILE, or NULL */
    enum tls_mode tls;               /* DB_TLS */
    const char *tls_authority;       /* DB_TLS_CA, or NULL */
};

/* False when a setting is wrong; `problem` then holds one line that names it (and never the secret). */
bool settings_read(struct settings *settings, char *problem, size_t problem_size);

void settings_free(struct settings *settings);

#endif
