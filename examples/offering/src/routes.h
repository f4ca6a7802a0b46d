/* The HTTP side: which path does what. */
#ifndef OFFERING_ROUTES_H
#define OFFERING_ROUTES_H

#include "database.h"

#include <stdatomic.h>

#define OFFERING_VERSION "1.0.0"

struct _u_instance;

struct service {
    struct database database;
    atomic_bool stopping; /* set before the stop, so that streams end soon */
};

/* False when the framework refuses a route. */
bool routes_add(struct _u_instance *instance, struct service *service);

#endif
