-- Who runs the market is somebody else than who watches the machines.
insert into roles (name, meaning) values
    ('administrator', 'lists instruments, halts, resumes and delists them');
