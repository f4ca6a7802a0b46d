-- The table of the service `offering` and ten rows to start with. May be run again: it changes nothing that is there.
-- Load it into the database that DB_NAME names:  mariadb offering < schema.sql
SET NAMES utf8mb4;

CREATE TABLE IF NOT EXISTS offering (
    offering_id        INT          NOT NULL,
    L30_               VARCHAR(255) NULL,
    Offering_Portfolio VARCHAR(255) NULL,
    Theme              VARCHAR(255) NULL,
    PRIMARY KEY (offering_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

INSERT IGNORE INTO offering (offering_id, L30_, Offering_Portfolio, Theme) VALUES
    (1,  'Mainframe Modernisation',   'Hybrid Cloud',   'Modernise'),
    (2,  'Container Platform',        'Hybrid Cloud',   'Modernise'),
    (3,  'Multi-Architecture Builds', 'Hybrid Cloud',   'Automate'),
    (4,  'Data Lakehouse',            'Data & AI',      'Analyse'),
    (5,  'Stream Processing',         'Data & AI',      'Analyse'),
    (6,  'Conversational Assistant',  'Data & AI',      'Automate'),
    (7,  'Zero-Trust Network',        'Security',       'Protect'),
    (8,  'Cyber Vault “Größe L”',     'Security',       'Protect'),
    (9,  'Edge Inference 🚀',         'Edge',           NULL),
    (10, 'Unassigned',                NULL,             NULL);
