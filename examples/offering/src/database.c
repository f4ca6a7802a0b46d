/* Connections, probe and row cursor on libmariadb. See database.h. */
#define _GNU_SOURCE /* sem_clockwait */
#include "database.h"

#include <mariadb/errmsg.h>
#include <mariadb/mysql.h>
#include <mariadb/mysqld_error.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ROW_CONNECTIONS = 16,
    PROBE_CONNECTIONS = 2,
    SLOT_WAIT_SECONDS = 3,
    CONNECT_TIMEOUT_SECONDS = 3,
    PROBE_TIMEOUT_SECONDS = 3,
    ROW_TIMEOUT_SECONDS = 8,
    TEXT_BUFFER = 512 /* longer values go through a buffer of their own */
};

static const char offering_query[] =
    "SELECT offering_id, L30_, Offering_Portfolio, Theme FROM offering ORDER BY offering_id";

const char *const offering_text_names[OFFERING_TEXTS] = {"L30_", "Offering_Portfolio", "Theme"};

struct text_column {
    char buffer[TEXT_BUFFER];
    char *large; /* grows to the longest value seen */
    size_t large_size;
    unsigned long length;
    my_bool is_null;
};

struct offering_cursor {
    struct database *database;
    MYSQL *connection;
    MYSQL_STMT *statement;
    MYSQL_BIND binds[1 + OFFERING_TEXTS];
    long long id;
    struct text_column columns[OFFERING_TEXTS];
};

static void set_error(struct database_error *error, const char *reason, const char *text)
{
    error->reason = reason;
    snprintf(error->text, sizeof error->text, "%s", text);
}

/* The server's own message can name users and hosts: it goes to the log, clients get one of these. */
static const char *public_reason(unsigned int code)
{
    switch (code) {
    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
    case CR_UNKNOWN_HOST:
        return "the database cannot be reached";
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_LOST:
        return "the connection to the database was lost";
    case CR_SSL_CONNECTION_ERROR:
        return "no TLS connection to the database";
    case ER_ACCESS_DENIED_ERROR:
    case ER_DBACCESS_DENIED_ERROR:
    case 1698: /* ER_ACCESS_DENIED_NO_PASSWORD_ERROR */
        return "the database refused access";
    case ER_CON_COUNT_ERROR:
        return "the database has too many connections";
    case ER_BAD_DB_ERROR:
        return "the database does not exist";
    case ER_NO_SUCH_TABLE:
    case ER_BAD_FIELD_ERROR:
        return "the database lacks the table or a column of it";
    default:
        return "the database failed";
    }
}

static void set_connection_error(struct database_error *error, MYSQL *connection)
{
    error->reason = public_reason(mysql_errno(connection));
    snprintf(error->text, sizeof error->text, "database error %u: %s", mysql_errno(connection), mysql_error(connection));
}

/* A connection that breaks while rows are fetched leaves its error on the connection, none on the statement. */
static void set_statement_error(struct database_error *error, struct offering_cursor *cursor)
{
    unsigned int code = mysql_stmt_errno(cursor->statement);
    if (code == 0 && mysql_errno(cursor->connection) != 0) {
        set_connection_error(error, cursor->connection);
        return;
    }
    error->reason = public_reason(code);
    snprintf(error->text, sizeof error->text, "database error %u: %s", code, mysql_stmt_error(cursor->statement));
}

static bool take_slot(sem_t *slots, struct database_error *error)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SLOT_WAIT_SECONDS;
    int result;
    do
        result = sem_clockwait(slots, CLOCK_MONOTONIC, &until);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        set_error(error, "too many requests at one time", "no database connection was free for some seconds");
    return result == 0;
}

/* Newer libmariadb demands a verified certificate unless told otherwise, older does not: so always tell. */
static void set_tls(MYSQL *connection, const struct settings *settings)
{
    my_bool yes = 1, no = 0;
    if (settings->tls == TLS_VERIFY) {
        if (settings->tls_authority != NULL)
            mysql_optionsv(connection, MYSQL_OPT_SSL_CA, settings->tls_authority);
        mysql_optionsv(connection, MYSQL_OPT_SSL_ENFORCE, &yes);
        mysql_optionsv(connection, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
        return;
    }
    bool encrypt = settings->tls == TLS_PREFERRED && settings->database_socket == NULL;
    mysql_optionsv(connection, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &no);
    mysql_optionsv(connection, MYSQL_OPT_SSL_ENFORCE, encrypt ? &yes : &no);
}

static MYSQL *connect_database(const struct settings *settings, unsigned int read_timeout, struct database_error *error)
{
    MYSQL *connection = mysql_init(NULL);
    if (connection == NULL) {
        set_error(error, "out of memory", "out of memory");
        return NULL;
    }
    unsigned int connect_timeout = CONNECT_TIMEOUT_SECONDS;
    unsigned int protocol = settings->database_socket != NULL ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    unsigned int local_infile = 0;
    mysql_optionsv(connection, MYSQL_OPT_CONNECT_TIMEOUT, &connect_timeout);
    mysql_optionsv(connection, MYSQL_OPT_READ_TIMEOUT, &read_timeout);
    mysql_optionsv(connection, MYSQL_OPT_WRITE_TIMEOUT, &read_timeout);
    mysql_optionsv(connection, MYSQL_OPT_PROTOCOL, &protocol);
    mysql_optionsv(connection, MYSQL_OPT_LOCAL_INFILE, &local_infile);
    mysql_optionsv(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    /* A slow client holds the server's writing back: that is no reason for the server to hang up. */
    mysql_optionsv(connection, MYSQL_INIT_COMMAND, "SET SESSION net_write_timeout = 300");
    set_tls(connection, settings);
    /* libmariadb takes a socket only when there is no host. */
    const char *host = settings->database_socket != NULL ? NULL : settings->database_host;
    if (mysql_real_connect(connection, host, settings->database_user, settings->database_password,
                           settings->database_name, settings->database_port, settings->database_socket, 0) == NULL) {
        set_connection_error(error, connection);
        mysql_close(connection);
        return NULL;
    }
    return connection;
}

bool database_init(struct database *database, const struct settings *settings)
{
    database->settings = settings;
    return mysql_library_init(0, NULL, NULL) == 0 && sem_init(&database->row_slots, 0, ROW_CONNECTIONS) == 0 &&
           sem_init(&database->probe_slots, 0, PROBE_CONNECTIONS) == 0;
}

void database_free(struct database *database)
{
    sem_destroy(&database->row_slots);
    sem_destroy(&database->probe_slots);
    mysql_library_end();
}

static bool probe(MYSQL *connection, struct database_error *error)
{
    if (mysql_query(connection, "SELECT 1") != 0) {
        set_connection_error(error, connection);
        return false;
    }
    MYSQL_RES *result = mysql_store_result(connection);
    if (result == NULL) {
        set_connection_error(error, connection);
        return false;
    }
    mysql_free_result(result);
    return true;
}

bool database_answers(struct database *database, struct database_error *error)
{
    if (!take_slot(&database->probe_slots, error))
        return false;
    bool answers = false;
    MYSQL *connection = connect_database(database->settings, PROBE_TIMEOUT_SECONDS, error);
    if (connection != NULL) {
        answers = probe(connection, error);
        mysql_close(connection);
    }
    sem_post(&database->probe_slots);
    return answers;
}

static bool run_query(struct offering_cursor *cursor, struct database_error *error)
{
    cursor->statement = mysql_stmt_init(cursor->connection);
    if (cursor->statement == NULL) {
        set_connection_error(error, cursor->connection);
        return false;
    }
    cursor->binds[0].buffer_type = MYSQL_TYPE_LONGLONG;
    cursor->binds[0].buffer = &cursor->id;
    for (int i = 0; i < OFFERING_TEXTS; i++) {
        MYSQL_BIND *bind = &cursor->binds[1 + i];
        struct text_column *column = &cursor->columns[i];
        bind->buffer_type = MYSQL_TYPE_STRING;
        bind->buffer = column->buffer;
        bind->buffer_length = sizeof column->buffer;
        bind->length = &column->length;
        bind->is_null = &column->is_null;
    }
    /* No mysql_stmt_store_result: rows stay on the network until they are fetched. */
    if (mysql_stmt_prepare(cursor->statement, offering_query, sizeof offering_query - 1) != 0 ||
        mysql_stmt_execute(cursor->statement) != 0 || mysql_stmt_bind_result(cursor->statement, cursor->binds) != 0) {
        set_statement_error(error, cursor);
        return false;
    }
    return true;
}

struct offering_cursor *offering_open(struct database *database, struct database_error *error)
{
    if (!take_slot(&database->row_slots, error))
        return NULL;
    struct offering_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL) {
        set_error(error, "out of memory", "out of memory");
        sem_post(&database->row_slots);
        return NULL;
    }
    cursor->database = database;
    cursor->connection = connect_database(database->settings, ROW_TIMEOUT_SECONDS, error);
    if (cursor->connection == NULL || !run_query(cursor, error)) {
        offering_close(cursor);
        return NULL;
    }
    return cursor;
}

/* A value that did not fit into the bound buffer is fetched again, whole, into one that grows. */
static bool fetch_large(struct offering_cursor *cursor, int index, struct database_error *error)
{
    struct text_column *column = &cursor->columns[index];
    if (column->length > column->large_size) {
        char *grown = realloc(column->large, column->length);
        if (grown == NULL) {
            set_error(error, "out of memory", "out of memory");
            return false;
        }
        column->large = grown;
        column->large_size = column->length;
    }
    unsigned long length = 0;
    my_bool is_null = 0;
    MYSQL_BIND bind = {.buffer_type = MYSQL_TYPE_STRING,
                       .buffer = column->large,
                       .buffer_length = column->large_size,
                       .length = &length,
                       .is_null = &is_null};
    if (mysql_stmt_fetch_column(cursor->statement, &bind, 1 + (unsigned int)index, 0) != 0) {
        set_statement_error(error, cursor);
        return false;
    }
    return true;
}

enum offering_step offering_next(struct offering_cursor *cursor, struct offering_row *row, struct database_error *error)
{
    int result = mysql_stmt_fetch(cursor->statement);
    if (result == MYSQL_NO_DATA)
        return OFFERING_END;
    if (result != 0 && result != MYSQL_DATA_TRUNCATED) {
        set_statement_error(error, cursor);
        return OFFERING_FAILED;
    }
    row->id = cursor->id;
    for (int i = 0; i < OFFERING_TEXTS; i++) {
        struct text_column *column = &cursor->columns[i];
        struct offering_text *text = &row->texts[i];
        *text = (struct offering_text){NULL, 0};
        if (column->is_null)
            continue;
        text->length = column->length;
        text->bytes = column->buffer;
        if (column->length > sizeof column->buffer) {
            if (!fetch_large(cursor, i, error))
                return OFFERING_FAILED;
            text->bytes = column->large;
        }
    }
    return OFFERING_ROW;
}

void offering_close(struct offering_cursor *cursor)
{
    /* The connection first: mysql_stmt_close on a live one would read all rows that are left. */
    if (cursor->connection != NULL)
        mysql_close(cursor->connection);
    if (cursor->statement != NULL)
        mysql_stmt_close(cursor->statement);
    sem_post(&cursor->database->row_slots);
    for (int i = 0; i < OFFERING_TEXTS; i++)
        free(cursor->columns[i].large);
    free(cursor);
}
