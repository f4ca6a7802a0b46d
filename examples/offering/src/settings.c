/* Reads and checks the environment; the database's secret comes from a file, never from a variable. */
#include "settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_LIMIT = 4096 };

/* An empty variable counts as one that is not set. */
static const char *variable(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

static bool read_port(const char *name, const char *otherwise, unsigned int *port, char *problem, size_t size)
{
    const char *text = variable(name, otherwise);
    unsigned int number = 0;
    size_t length = strlen(text);
    bool good = length <= 5 && strspn(text, "0123456789") == length;
    if (good)
        number = (unsigned int)strtoul(text, NULL, 10);
    if (!good || number < 1 || number > 65535) {
        snprintf(problem, size, "%s must be a number from 1 to 65535, not '%.40s'", name, text);
        return false;
    }
    *port = number;
    return true;
}

static bool read_address(struct settings *settings, char *problem, size_t size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&settings->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&settings->address;
    settings->bind_text = variable("OFFERING_BIND", "0.0.0.0");
    if (inet_pton(AF_INET, settings->bind_text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)settings->port);
        return true;
    }
    if (inet_pton(AF_INET6, settings->bind_text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)settings->port);
        return true;
    }
    snprintf(problem, size, "OFFERING_BIND must be an IPv4 or IPv6 address, not '%.60s'", settings->bind_text);
    return false;
}

static bool read_secret(const char *path, char **secret, char *problem, size_t size)
{
    char content[SECRET_LIMIT + 1];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(problem, size, "DB_PASSWORD_FILE: cannot open %.200s: %s", path, strerror(errno));
        return false;
    }
    errno = 0;
    size_t length = fread(content, 1, sizeof content, file);
    bool failed = ferror(file) != 0;
    int reason = errno;
    fclose(file);

    const char *complaint = NULL;
    if (length > 0 && length <= SECRET_LIMIT && content[length - 1] == '\n')
        length--;
    if (length > 0 && length <= SECRET_LIMIT && content[length - 1] == '\r')
        length--;
    if (failed)
        complaint = strerror(reason);
    else if (length == 0)
        complaint = "the file is empty";
    else if (length > SECRET_LIMIT)
        complaint = "the file is longer than 4096 bytes";
    else if (memchr(content, '\0', length) != NULL)
        complaint = "the file holds a zero byte";
    if (complaint != NULL) {
        snprintf(problem, size, "DB_PASSWORD_FILE: cannot read %.200s: %s", path, complaint);
    } else {
        *secret = strndup(content, length);
        if (*secret == NULL)
            snprintf(problem, size, "out of memory");
    }
    explicit_bzero(content, sizeof content);
    return *secret != NULL;
}

static bool read_tls(struct settings *settings, char *problem, size_t size)
{
    const char *mode = variable("DB_TLS", "preferred");
    settings->tls_authority = variable("DB_TLS_CA", NULL);
    if (strcmp(mode, "preferred") == 0)
        settings->tls = TLS_PREFERRED;
    else if (strcmp(mode, "verify") == 0)
        settings->tls = TLS_VERIFY;
    else if (strcmp(mode, "off") == 0)
        settings->tls = TLS_OFF;
    else {
        snprintf(problem, size, "DB_TLS must be preferred, verify or off, not '%.40s'", mode);
        return false;
    }
    if (settings->tls_authority != NULL && settings->tls != TLS_VERIFY) {
        snprintf(problem, size, "DB_TLS_CA is used with DB_TLS=verify only");
        return false;
    }
    return true;
}

bool settings_read(struct settings *settings, char *problem, size_t size)
{
    memset(settings, 0, sizeof *settings);
    if (!read_port("OFFERING_PORT", "8080", &settings->port, problem, size) ||
        !read_address(settings, problem, size) ||
        !read_port("DB_PORT", "3306", &settings->database_port, problem, size) ||
        !read_tls(settings, problem, size))
        return false;
    settings->database_host = variable("DB_HOST", "127.0.0.1");
    settings->database_socket = variable("DB_SOCKET", NULL);
    settings->database_user = variable("DB_USER", "offering");
    settings->database_name = variable("DB_NAME", "offering");

    const char *secret_file = variable("DB_PASSWORD_FILE", NULL);
    if (secret_file != NULL)
        return read_secret(secret_file, &settings->database_password, problem, size);
    if (settings->database_socket == NULL) {
        snprintf(problem, size, "DB_PASSWORD_FILE is not set (it may be left out with DB_SOCKET only)");
        return false;
    }
    return true;
}

void settings_free(struct settings *settings)
{
    if (settings->database_password != NULL) {
        explicit_bzero(settings->database_password, strlen(settings->database_password));
        free(settings->database_password);
        settings->database_password = NULL;
    }
}
