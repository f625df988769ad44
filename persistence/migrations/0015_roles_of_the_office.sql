-- The roles of the back office. What each permits is in the code's table of permissions; here is
-- who holds which. Everybody who has signed up is a customer: that role is neither given nor taken.
insert into roles (name, meaning) values
    ('customer', 'uses what is their own: accounts, transfers, orders, keys'),
    ('supplier', 'offers services to customers'),
    ('support', 'looks at customers, freezes accounts, proposes adjustments'),
    ('auditor', 'reads customers, roles and the audit log, and changes nothing');
update roles set meaning = 'gives and takes roles, checks adjustments, runs the market'
where name = 'administrator';
update roles set meaning = 'sees how the platform runs, resends messages, runs canary releases'
where name = 'operator';
alter table user_roles add constraint user_roles_given check (role <> 'customer');
